"""Edits of a series for ``make_series``."""

from __future__ import annotations


def set_all(**attributes: object):
    """An edit that sets attributes on every slice; a callable value gets the slice number."""

    def edit(d, k):
        for keyword, value in attributes.items():
            setattr(d, keyword, value(k) if callable(value) else value)

    return edit


def set_one(k_wanted: int, **attributes: object):
    """An edit that sets attributes on one slice; None deletes."""

    def edit(d, k):
        for keyword, value in attributes.items():
            if k == k_wanted and value is None:
                delattr(d, keyword)
            elif k == k_wanted:
                setattr(d, keyword, value)

    return edit
