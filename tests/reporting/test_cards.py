import json

import pytest
import yaml
from releases import NAME, a_release

from dim import release
from dim.errors import UserError
from dim.evaluation.protocol import combine
from dim.reporting import cards

COMMIT = {"versions": {"commit": "0123456789abcdef"}, "device": "cpu"}


def evaluation(sha256, accuracy, protocol="quick", seeds=(0,), source="cifar10", **others):
    settings = {"hidden": 200, "epochs": 10, "seed": 0}
    return {
        "name": "dim_local_infonce",
        "identity": {
            "checkpoint_sha256": sha256,
            "data": {"source": source, "fingerprint": "0" * 64},
            "protocol": {"name": protocol, "mlp": settings},
            "seeds": list(seeds),
        },
        "wall_time": {"mlp": 12.3},
        "provenance": dict.fromkeys(("mlp", *others), COMMIT),
        "results": {"mlp": {layer: {"accuracy_last_k": accuracy} for layer in ("conv", "y")}} | others,
    }


@pytest.fixture
def file(tmp_path):
    return a_release(tmp_path / "checkpoints")


def own(file, name="evaluation.json", **options):
    """An evaluation of the file itself, on disk."""
    path = file.with_suffix("") / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(evaluation(release.read_record(file)["sha256"], **options)))


def of_its_checkpoint(file, **options):
    """The same file, exported after its checkpoint had been evaluated."""
    record = release.read_record(file)
    run = file.parent / "run"
    (run / "evaluation.json").write_text(json.dumps(evaluation(record["metadata"]["checkpoint_sha256"], **options)))
    return a_release(file.parent, overwrite=True)


def test_a_card_says_what_there_is(file):
    card = cards.card(file)
    record = release.read_record(file)
    for fact in (
        f"# {NAME}\n",
        "`conv32` with a code of 64 numbers, trained by `DeepInfoMax` on CIFAR-10",
        f"`{NAME}.safetensors`, 19.7 MB, weights in float32",
        f"`{record['sha256']}`",
        "RGB images in [-1, 1], 32 x 32 pixels",
        "CIFAR-10, the training split without 500 held-out images",
        "epoch 2 of 2, 1,562 steps, seed 3",
        "dim fit --config config.yaml --data.root DATA",
        "| licence | MIT |",
        "trained for 2 epochs, the paper's encoders for 1000",
    ):
        assert fact in card, fact
    assert "protocol" not in card  # nothing was measured
    assert "| cost" not in card  # nothing was logged


def test_a_card_says_if_the_method_was_not_the_paper_s(file):
    assert "augmented views" not in cards.card(file)
    record = json.loads(file.with_suffix(".json").read_text())
    config = yaml.safe_load(record["metadata"]["training_config"])
    config["model"]["init_args"]["views"] = True
    record["metadata"]["training_config"] = yaml.safe_dump(config)
    file.with_suffix(".json").write_text(json.dumps(record))
    assert "augmented views, which is not the paper's method" in cards.card(file)
    config["model"]["init_args"].update(ghost_batch=16, init_from="dim_local_jsd_cifar10")
    record["metadata"]["training_config"] = yaml.safe_dump(config)
    record["metadata"]["epoch"] = 9
    file.with_suffix(".json").write_text(json.dumps(record))
    assert "batch norm over 16 images at a time, which is not the paper's method" in cards.card(file)
    assert "trained for 10 epochs" in cards.card(file)
    assert "started from the weights in dim_local_jsd_cifar10 (as they were then)" in cards.card(file)
    record["metadata"]["started_from"] = "0123abc"
    file.with_suffix(".json").write_text(json.dumps(record))
    assert "started from the weights in dim_local_jsd_cifar10 (SHA-256 `0123abc`)" in cards.card(file)


def test_numbers_come_with_protocol_and_published_ones(file):
    own(file, accuracy=61.234, seeds=(1, 2))
    card = cards.card(file)
    assert "## CIFAR-10, quick protocol" in card
    assert "| MLP probe, accuracy % (table 1) | 61.23 (75.21) | 61.23 (69.13) |" in card
    assert (
        f"`dim evaluate {NAME} --protocol quick --only mlp --layers conv,y --seed 1 --seeds 2 --data.root DATA`" in card
    )
    assert "commit 0123456789ab; mlp 12 s on cpu" in card
    assert "* `mlp`: hidden 200, epochs 10\n" in card


def test_commands_give_the_layers_that_were_evaluated(file):
    whole = {layer: {"accuracy_last_k": 60.0} for layer in ("conv", "fc", "y")}
    own(file, accuracy=1.0, mlp=whole, svm={"y": {"accuracy": 50.0}}, rank={"y": {"effective_rank": 9.0}})
    card = cards.card(file)
    assert f"`dim evaluate {NAME} --protocol quick --only mlp,rank --data.root DATA`" in card
    assert f"`dim evaluate {NAME} --protocol quick --only svm --layers y --data.root DATA`" in card


def test_results_that_were_put_aside_are_not_shown(file):
    own(file, accuracy=61.234)
    path = file.with_suffix("") / "evaluation.1.json"
    aside = evaluation(release.read_record(file)["sha256"], 40.5, seeds=(7,))
    path.write_text(json.dumps({**aside, "aside_of": "evaluation.json"}))
    card = cards.card(file)
    assert "61.23" in card
    assert "40.5" not in card
    assert "40.5" not in cards.index(file.parent)


def test_settings_that_results_tell_are_shown(file):
    own(file, accuracy=61.234, knn={"y": {"accuracy": 50.0, "neighbours": [20], "temperature": 0.07}})
    card = cards.card(file)
    assert "| kNN (cosine), accuracy % |  | 50.00 |" in card
    assert "* `knn`: neighbours [20], temperature 0.07\n" in card


def test_settings_that_were_chosen_are_shown_for_each_layer(file):
    chosen = {"y": {"dropout": 0.0, "weight_decay": 1e-4}, "conv": {"dropout": 0.3, "weight_decay": 0.0}}
    own(file, accuracy=1.0, mlp={layer: {"accuracy_last_k": 60.0, **each} for layer, each in chosen.items()})
    told = "hidden 200, epochs 10, chosen dropout conv 0.3, y 0.0, chosen weight_decay conv 0.0, y 0.0001"
    assert f"* `mlp`: {told}\n" in cards.card(file)


def test_several_seeds_and_what_did_not_converge_are_told(file):
    raw = {"accuracy": 1.0, "converged": False, "relative_gap": 0.2}
    one = {"accuracy": 50.0, "cost": 0.1, "validation_accuracies": [{"cost": 0.1, "accuracy": 50.0}], "raw": raw}
    own(file, accuracy=1.0, svm={"y": combine([one, one])})
    card = cards.card(file)
    assert "chosen cost y 0.1" in card
    assert "* not converged: svm on raw features, y: stopped up to 20 % above its minimum" in card


def test_numbers_of_other_weights_are_not_shown(file):
    own(file, accuracy=61.234)
    path = file.with_suffix("") / "evaluation.json"
    path.write_text(path.read_text().replace(release.read_record(file)["sha256"], "0" * 64))
    assert "61.23" not in cards.card(file)
    assert "61.23" not in cards.index(file.parent)
    assert "61.23" not in cards.card(of_its_checkpoint(file, accuracy=60.0))


def test_numbers_of_the_checkpoint_stand_until_the_file_has_its_own(file):
    file = of_its_checkpoint(file, accuracy=61.234)
    assert "Of the checkpoint that this file was exported from, whose weights it has, on" in cards.card(file)
    assert "`dim evaluate RUN --protocol quick" in cards.card(file)
    assert "not evaluated" in cards.index(file.parent)
    own(file, "evaluation-standard.json", accuracy=62.0, protocol="standard")
    both = cards.card(file)
    assert both.index("62.00 (75.21)") < both.index("61.23 (75.21)")  # the file's own come first
    own(file, accuracy=60.999)
    card = cards.card(file)
    assert "61.23" not in card
    assert "61.00 (75.21)" in card
    assert "62.00 (75.21)" in card


def test_other_data_are_named(file):
    own(file, accuracy=20.0, source="cifar100")
    card = cards.card(file)
    assert "## CIFAR-100, quick protocol" in card
    assert "--data.source cifar100 --data.root DATA" in card
    assert "20.00" not in cards.index(file.parent)  # the table is about the data that an encoder was trained on


def test_the_table_goes_where_it_has_a_place(file, monkeypatch):
    monkeypatch.setattr(cards.release, "FOLDER", file.parent)
    own(file, accuracy=61.234)
    pages = [file.parent / "README.md", file.parent.parent / "README.md"]
    for page in pages:
        page.write_text(f"before\n{cards.BEGIN}\nold\n{cards.END}\nafter\n")
    cards.write(file)
    sha = release.read_record(file)["sha256"][:12]
    for page in pages:
        text = page.read_text()
        assert text.startswith("before\n")
        assert text.endswith("after\n")
        assert "old" not in text
        line = f"| `{NAME}` | CIFAR-10 | 2 |  | 19.7 | quick | 61.23 (75.21) |  | 61.23 (69.13) | `{sha}` |"
        assert line in text
        page.write_text("no place\n")
    cards.write(file)
    assert [page.read_text() for page in pages] == ["no place\n"] * 2
    assert cards.index(file.parent / "nothing") == "None yet.\n"


def test_the_checkout_s_table_is_of_released_encoders_alone(file):
    page = file.parent.parent / "README.md"
    page.write_text(f"{cards.BEGIN}\nreleased\n{cards.END}\n")
    cards.write(file)
    assert "released" in page.read_text()


def test_a_place_without_an_end_is_one_line(file):
    with pytest.raises(UserError, match="put these two lines there"):
        cards.with_table(cards.BEGIN, file.parent, file.parent / "README.md")
