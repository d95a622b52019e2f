"""A store that moves, while both of its halves are asked."""

from __future__ import annotations

from test_segments import a_blob

from dicomnet.repository.moving_store import MovingStore
from dicomnet.repository.segments import SegmentStore


class Bucket(SegmentStore):
    """Any store that answers many questions in the time of one."""

    def __init__(self, root):
        super().__init__(root)
        self.looking = 16


def test_checks_read_one_segment_at_a_time_until_the_old_store_is_empty(tmp_path):
    old, new = SegmentStore(tmp_path / "old"), Bucket(tmp_path / "new")
    store = MovingStore(new, old, lambda key: False)
    new.put([a_blob(1)])
    assert store.looking == 16
    refs = old.put([a_blob(2)])
    assert store.looking == 1
    old.delete(refs)
    assert store.looking == 16
    store.close()
