"""The queue of commands: verbs always arrive, and an Undo takes back what the operator saw."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp import events as ev
from autoexp.commands import CommandQueue
from autoexp.plan import Budget, GridAgent, Plan, RandomAgent, Region
from autoexp.scalarizers import Window
from autoexp.state import Settings

REGION = Region(id="a", kind="exclude", top=0, left=0, bottom=0.5, right=0.5)
STEERING = [
    ev.SetBudget(budget=Budget(points=7)),
    ev.SetBudget(budget=Budget(points=8)),
    ev.SetAgent(agent=GridAgent()),
    ev.SetAgent(agent=RandomAgent()),
    ev.SetScalarizer(scalarizer=Window(low_eV=2, high_eV=3)),
    ev.AddRegion(region=REGION),
    ev.RemoveRegion(id="a"),
    ev.MeasureHere(id="m", position=(0.5, 0.5)),
    ev.Undo(),
]


def drained(queue):
    taken = []
    while (command := queue.take()) is not None:
        taken.append(command)
    return taken


def test_verbs_find_room_in_a_full_queue_and_overtake_it():
    queue = CommandQueue(capacity=8)
    for number in range(8):
        assert queue.put(ev.RemoveRegion(id=str(number)))
    assert not queue.put(ev.RemoveRegion(id="one too many"))
    for verb in ("resume", "pause", "stop", "abort", "halt"):
        assert queue.put(verb)
    assert queue.waits("stop")
    assert drained(queue)[:4] == ["halt", "abort", "stop", "pause"]


def test_what_is_no_verb_is_refused():
    with pytest.raises(ValueError, match="no verb"):
        CommandQueue().put("explode")


def test_an_undo_stands_between():
    queue = CommandQueue()
    first, second = (ev.SetBudget(budget=Budget(points=n)) for n in (7, 8))
    for command in (first, ev.Undo(), second):
        queue.put(command)
    assert drained(queue) == [first, ev.Undo(), second]


def after(settings_now, commands):
    """The settings once commands are in force one after the other; what makes no sense is left out."""
    history = []
    for command in commands:
        if isinstance(command, ev.Undo):
            settings_now = history.pop() if history else settings_now
            continue
        try:
            changed = settings_now.after(command)
        except Exception:
            continue
        history.append(settings_now)
        settings_now = changed
    return settings_now


@settings(max_examples=300, deadline=None)
@given(commands=st.lists(st.sampled_from(STEERING), max_size=12))
def test_between_two_undos_the_last_writer_wins_and_nothing_else_changes(commands):
    """Merging commands of one parameter never changes what is in force when the queue is empty, Undo or not."""
    queue = CommandQueue()
    for command in commands:
        assert queue.put(command)
    taken = drained(queue)
    assert [c for c in taken if isinstance(c, ev.Undo)] == [c for c in commands if isinstance(c, ev.Undo)]
    merged, start = [], 0
    for end in [*(i for i, c in enumerate(commands) if isinstance(c, ev.Undo)), len(commands)]:
        group = commands[start:end]
        last = {queue._key(c): c for c in group}
        assert set(map(repr, last.values())) <= set(map(repr, taken))
        merged += group + commands[end : end + 1]
        start = end + 1
    begun = Settings.of(Plan())
    if not any(isinstance(c, ev.Undo) for c in commands):
        assert repr(after(begun, taken)) == repr(after(begun, merged))


@given(st.lists(st.sampled_from(["pause", "resume"]), min_size=1, max_size=6))
@settings(deadline=None)
def test_of_pause_and_resume_the_last_word_counts(words):
    queue = CommandQueue()
    for word in words:
        assert queue.put(word)
    assert drained(queue) == words[-1:]
