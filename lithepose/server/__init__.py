"""The endpoint of ``lithepose serve``, and its page."""
