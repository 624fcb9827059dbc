from __future__ import annotations

import pytest
from simpler import IllegalTransition, TaskState
from simpler.tasks.states import (
    BUILD,
    COMPLETE,
    CONSUME,
    EVENTS,
    FAIL,
    FREE,
    LAUNCH,
    RECALL,
    RELEASE,
    SUBMIT,
)


def walk(*events: dict[int, int]) -> list[TaskState]:
    state = int(TaskState.FREE)
    seen = [TaskState(state)]
    for event in events:
        state = event[state]
        seen.append(TaskState(state))
    return seen


def test_a_task_that_ends_well_walks_every_state_but_failed():
    names = [state.name for state in walk(BUILD, SUBMIT, RELEASE, LAUNCH, COMPLETE, CONSUME, FREE)]
    assert names == ["FREE", "BUILDING", "PENDING", "READY", "RUNNING", "COMPLETED", "CONSUMED", "FREE"]


@pytest.mark.parametrize("before", [(BUILD,), (BUILD, SUBMIT), (BUILD, SUBMIT, RELEASE), (BUILD, SUBMIT, LAUNCH)])
def test_a_task_can_fail_from_any_state_between_building_and_running(before):
    assert walk(*before, FAIL, CONSUME, FREE)[-3:] == [TaskState.FAILED, TaskState.CONSUMED, TaskState.FREE]


def test_a_recalled_task_runs_again():
    assert walk(BUILD, SUBMIT, RELEASE, LAUNCH, RECALL, RELEASE, LAUNCH, COMPLETE)[-1] is TaskState.COMPLETED


def test_every_transition_of_the_table_can_be_reached_from_free():
    reached = {TaskState.FREE}
    taken = set()
    while True:
        steps = {(event.name, before) for event in EVENTS for before in event if before in reached} - taken
        if not steps:
            break
        taken |= steps
        reached |= {TaskState(event[before]) for event in EVENTS for before in event if before in reached}
    assert reached == set(TaskState)
    assert taken == {(event.name, before) for event in EVENTS for before in event}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_every_move_outside_the_table_is_refused(event):
    for state in TaskState:
        if state not in event:
            with pytest.raises(IllegalTransition, match=f"{state.name} cannot {event.name}"):
                event[int(state)]
