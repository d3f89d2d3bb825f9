import hashlib
import json

from dim.reproduction.published import TABLES, published, published_row


def test_published_numbers_are_complete():
    counts = {
        name: {data: len(rows) for data, rows in published()[name].items() if data.startswith("cifar")}
        for name in TABLES
    }
    assert counts == {
        "table1": {"cifar10": 11, "cifar100": 11},
        "table4": {"cifar10": 7},
        "table5": {"cifar10": 4, "cifar100": 4},
    }
    cells = [row.get(cell) for row in published()["table1"]["cifar10"] for cell in ("accuracy", "conv", "fc", "y")]
    assert sum(cell is not None for cell in cells) == 31
    assert published_row("table1", "cifar10", "dim_local_infonce")["conv"] == 75.21
    assert published_row("table1", "digits", "vae") is None


def test_published_numbers_are_as_they_were_checked_against_the_paper():
    numbers = {name: {data: published()[name].get(data) for data in ("cifar10", "cifar100")} for name in TABLES}
    written = json.dumps(numbers, sort_keys=True)
    assert (
        hashlib.sha256(written.encode()).hexdigest()
        == "ce575d50cd8498e91a6333c34a0af9669b1dfff301e1451d5788c3261d42f017"
    )
