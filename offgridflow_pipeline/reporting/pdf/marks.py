"""Flowables of a fixed size, and the invisible ones: where a fact was printed, and section bookmarks."""

from __future__ import annotations

from reportlab.platypus import Flowable


class Pages:
    """First page on which each fact was printed, filled while the document is drawn."""

    def __init__(self) -> None:
        self._page_of: dict[str, int] = {}

    def note(self, fact_id: str, page: int) -> None:
        """Remember the first page of a fact."""
        self._page_of.setdefault(fact_id, page)

    def get(self, fact_id: str) -> int | None:
        """Page of a fact, None when it was not printed."""
        return self._page_of.get(fact_id)


class Fixed(Flowable):  # type: ignore[misc]  # reportlab is untyped
    """A flowable that takes a given room and draws on the canvas itself."""

    def __init__(self, width: float = 0, height: float = 0) -> None:
        super().__init__()
        self.width, self.height = width, height

    def wrap(self, available_width: float, available_height: float) -> tuple[float, float]:
        """The room it takes, in points."""
        return self.width, self.height


class FactMark(Fixed):
    """Nothing to see: notes the page on which it is drawn for its fact."""

    def __init__(self, fact_id: str, pages: Pages) -> None:
        super().__init__()
        self._fact_id = fact_id
        self._pages = pages

    def draw(self) -> None:
        """Note the page."""
        self._pages.note(self._fact_id, self.canv.getPageNumber())


class SectionMark(Fixed):
    """Nothing to see: an entry of the document outline."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def draw(self) -> None:
        """Add the outline entry."""
        key = f"section-{self._title}"
        self.canv.bookmarkPage(key)
        self.canv.addOutlineEntry(self._title, key, level=0)
