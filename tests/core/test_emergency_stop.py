"""The emergency stop's own logic, on a clock of the test's."""

import pytest

from mbrl_core.emergency_stop import EmergencyStop


class Button(EmergencyStop):
    def __init__(self, timeout_s):
        self.time_s = 0.0
        super().__init__(timeout_s, lambda: self.time_s)


def test_without_a_heartbeat_only_a_press_counts_and_only_a_release_ends_it():
    button = Button(0.0)
    assert button.trouble() == ""
    button.hear(True)
    button.time_s = 3600.0
    assert button.trouble() == "emergency stop: pressed"
    button.hear(False)
    button.time_s = 7200.0
    assert button.trouble() == ""


def test_where_words_are_due_silence_counts_as_pressed():
    """Fault 59."""
    button = Button(0.5)
    assert button.trouble().endswith("every 0.5 s, got none yet")
    button.hear(False)
    button.time_s = 0.5
    assert button.trouble() == ""
    button.time_s = 0.51
    assert button.trouble().endswith("every 0.5 s, got silence")
    button.hear(False)
    assert button.trouble() == ""
    button.hear(True)
    assert button.trouble() == "emergency stop: pressed"


def test_a_press_that_is_released_before_anybody_looked_is_heeded_once():
    """A button's heartbeat says that it is released right after somebody else pressed."""
    button = Button(0.0)
    button.hear(True)
    button.hear(False)
    assert button.trouble() == "", "what keeps an arm from moving now"
    assert button.heed() == "emergency stop: pressed"
    assert button.heed() == ""


@pytest.mark.parametrize("pressed", [True, False])
def test_waiting_ends_with_the_first_good_word_and_not_with_a_press(pressed):
    button = Button(0.5)
    button.hear(pressed)
    assert button.wait_until_clear(0.01) is not pressed
