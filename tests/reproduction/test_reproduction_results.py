from dim.reproduction.results import training_seconds


def test_a_training_took_what_all_its_sessions_took():
    sessions = [{"seconds": 90.0}, {"seconds": None}, {"seconds": 5.54}]  # the second was killed
    assert training_seconds({"sessions": sessions}) == 95.5
