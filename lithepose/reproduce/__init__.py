"""What the five papers show, each table and figure a command: ``lithepose reproduce ITEM``.

:data:`lithepose.reproduce.items.ITEMS` lists them; one module a paper has the functions. Needs the recipes of the
repository, and torch for all but the list.
"""
