"""Reproduction of the five papers' tables and figures: ``lithepose reproduce ITEM``.

:data:`lithepose.reproduce.items.ITEMS` lists the items. Each paper has a module with their functions. All but the list
needs torch and the recipes of the repository.
"""
