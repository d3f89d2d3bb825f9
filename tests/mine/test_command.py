from dim import cli
from dim.mine import command


def test_help_lists_the_experiments(capsys):
    cli.main(["mine", "--help"])
    listed = capsys.readouterr().out
    assert all(name in listed for name in command.EXPERIMENTS)
    cli.main(["mine"])
    assert capsys.readouterr().out == listed
