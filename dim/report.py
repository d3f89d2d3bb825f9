"""`dim report`: all results as one page, as tables for papers and as figures."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from matplotlib.figure import Figure

from dim import cpu, plots
from dim.data.dataset import Dataset, Split, spread
from dim.data.sources import load_for_encoder
from dim.errors import UserError, at_least
from dim.evaluation.features import encode
from dim.evaluation.settings import ProtocolName, file_name, picture_prefix
from dim.files import replacing, write_json
from dim.parsing import parse
from dim.progress import Report, bars
from dim.reporting import charts, pictures
from dim.reporting.page import Picture, Section, page, provenance_html, table_html
from dim.reporting.text import latex, markdown, update_readme
from dim.reporting.trained import Trained, prior_of, trained
from dim.reporting.views import in_order, view
from dim.reproduction.results import read_all

TITLE = "Deep InfoMax, reproduced"


def report(
    results: Path = Path("results"),
    runs: Path = Path("runs"),
    output: Path = Path("results/report"),
    root: str | None = None,
    images: int = 1500,
    readme: Path | None = None,
) -> Path:
    """Writes what `dim reproduce` and `dim mine` have measured as a page that opens anywhere, offline.

    OUTPUT/index.html holds everything; tables/*.md and *.tex and figures/*.png and *.svg are its parts for other
    documents. Pictures of encoders need the runs and the data and are drawn again only for new checkpoints.

    Args:
        results: folder with the files of dim reproduce, and mine/ of dim mine.
        runs: where the runs are.
        output: folder to write to.
        root: folder with the data; by default where each run was trained on it.
        images: test images on the maps of codes.
        readme: also rewrite the results section of this file from RESULTS, and do nothing else.

    Returns:
        The page's path, or the README's.
    """
    at_least(1, images=images)
    contents = in_order(read_all(results))
    if readme is not None:
        update_readme(readme, contents)
        print(f"results of {readme}: from {len(contents)} files in {results}")
        return readme
    if not contents and not (results / "mine").is_dir():
        raise UserError(f"{results} holds no results yet: run dim reproduce table1 first, or give --results FOLDER")
    with bars() as progress:
        sections = build(contents, results, runs, output, root, images, progress)
    path = output / "index.html"
    with replacing(path, "w") as file:
        file.write(page(TITLE, summary(contents), sections))
    print(f"report: {path}")
    return path


def summary(contents: Sequence[dict[str, Any]]) -> str:
    """One sentence on what there is."""
    views = [view(content) for content in contents]
    rows, finished = sum(len(table.rows) for table in views), sum(table.finished for table in views)
    return (
        "Hjelm et al., Learning deep representations by mutual information estimation and maximization, ICLR 2019 "
        f"(arXiv 1808.06670), beside what was measured here: {finished} of {rows} rows in {len(views)} tables."
    )


def build(
    contents: Sequence[dict[str, Any]],
    results: Path,
    runs: Path,
    output: Path,
    root: str | None,
    images: int,
    progress: Report,
) -> list[Section]:
    """The page's sections; writes tables and figures on the way."""
    album = Album(output / "figures")
    tables, made = Section("tables", "Tables"), Section("provenance", "What made each number")
    for content in contents:
        table = view(content)
        tables.body.append(table_html(table))
        made.body.append(provenance_html(content, table))
        for suffix, text in ((".md", markdown(table)), (".tex", latex(table))):
            with replacing(output / "tables" / f"{table.key}{suffix}", "w") as file:
                file.write(text)
    sections = [tables, charted(contents, album)]
    sections += encoded(trained(contents, runs), album, root, images, progress)
    return [*sections, estimated(results / "mine"), made]


class Album:
    """A folder of figures, each drawn only where its key has changed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.index = folder, folder / "made.json"
        self.keys: dict[str, str] = json.loads(self.index.read_text("utf-8")) if self.index.exists() else {}

    def path(self, name: str, key: str, draw: Callable[[], Figure]) -> Path:
        """The PNG of a figure."""
        path = self.folder / f"{name}.png"
        if self.keys.get(name) != key or not path.exists():
            plots.save(draw(), path)
            self.keys[name] = key
            write_json(self.index, self.keys)
        return path

    def chart(self, name: str, made: Figure | None, caption: str) -> list[Picture]:
        """A figure of numbers, drawn anew; embedded as SVG. Nothing where there are no numbers."""
        if made is None:
            return []
        path = plots.save(made, self.folder / f"{name}.png").with_suffix(".svg")
        return [Picture(path, caption, caption)]


def charted(contents: Sequence[dict[str, Any]], album: Album) -> Section:
    """Figures of measured numbers."""
    section = Section("figures", "Accuracy and cost")
    caption = "Accuracy of the MLP probe on Y (fully supervised: its classifier) against epochs and time of training."
    shown = album.chart("cost", charts.cost(contents), caption)
    for content in contents:
        table = view(content)
        if content["experiment"] in charts.GRIDS:
            shown += album.chart(table.key, charts.GRIDS[content["experiment"]](content), table.title)
            continue
        about = table.title.partition(": ")[0] + table.title[table.title.index(";") :]
        published = f"{about}: accuracy of MLP probes on three layers; hollow: published, filled: ours."
        shown += album.chart(f"published-{table.key}", charts.against_published(content), published)
        both = f"{about}: MLP probe and linear SVM on the same frozen layers, of each row's first seed that has both."
        shown += album.chart(f"svm-{table.key}", charts.svm_beside_mlp(content), both)
    if shown:
        section.show(shown, wide=True)
    return section


def _reconstructions(folder: Path) -> Path | None:
    """The picture of the longest protocol that has one of test images."""
    results = (file_name(protocol) for protocol in reversed(get_args(ProtocolName)))
    paths = (folder / f"{picture_prefix(name)}reconstructions-y.png" for name in results)
    return next((path for path in paths if path.exists()), None)


def encoded(runs: Sequence[Trained], album: Album, root: str | None, images: int, progress: Report) -> list[Section]:
    """What each encoder makes of test images."""
    reconstructed = Section("reconstructions", "Reconstructions from Y")
    near = Section("neighbours", "Nearest neighbours")
    maps, priors = Section("maps", "Maps of Y"), Section("priors", "Y and its prior")
    drawn: dict[str, list[Picture]] = {"near": [], "maps": [], "priors": []}
    datasets: dict[tuple[str, int], Dataset] = {}
    absent: list[str] = []
    found = [
        Picture(path, run.title, f"Test images above their reconstructions from the code of {run.title}")
        for run in runs
        if (path := _reconstructions(run.folder))
    ]
    if found:
        reconstructed.say("Test images, and below each what a decoder fitted to the frozen code makes of it.")
        reconstructed.show(found)
    for place, run in enumerate(runs):
        progress("pictures of encoders", place / len(runs))
        try:
            for kind, picture in portraits(run, album, root, images, datasets):
                drawn[kind].append(picture)
        except UserError as error:  # its images are not at hand, or its checkpoint: the tables stand without pictures
            absent.append(f"{run.title}: {error}")
    progress("pictures of encoders", 1.0)
    if absent:
        near.say(f"Encoders without pictures: {'; '.join(absent)}.")
    texts = {
        "near": "Left: test images. Beside each: the test images whose codes are nearest in L1 distance (itself left "
        "out); a green frame marks the same class. The images are the first of their classes.",
        "maps": f"t-SNE of the codes of up to {images} test images, evenly spread, of at most ten classes.",
        "priors": "Distribution of the single numbers of Y over test images; band: 10 to 90 % of the features.",
    }
    for kind, section in (("near", near), ("maps", maps), ("priors", priors)):
        if drawn[kind]:
            section.say(texts[kind])
            section.show(drawn[kind])
    return [reconstructed, near, maps, priors]


def portraits(
    run: Trained, album: Album, root: str | None, images: int, datasets: dict[tuple[str, int], Dataset]
) -> list[tuple[str, Picture]]:
    """The pictures of one encoder, by kind; drawn only where its checkpoint is new."""
    encoder, checkpoint = run.read()
    prior, options = prior_of(checkpoint), checkpoint["datamodule_hyper_parameters"]
    key = f"{run.checkpoint} {images}"
    cache: list[tuple[Split, torch.Tensor, Sequence[str]]] = []

    def codes() -> tuple[Split, torch.Tensor, Sequence[str]]:
        if not cache:
            place = run.data, encoder.image_size
            if place not in datasets:
                where = root or options["root"]
                datasets[place] = load_for_encoder(options["source"], where, False, encoder.image_size)
            dataset = datasets[place]
            y = encode(encoder, dataset.test.images, ["y"])["y"]
            cache.append((dataset.test, y, dataset.classes))
        return cache[0]

    def mapped() -> Figure:
        split, y, classes = codes()
        rows = torch.arange(len(y))[split.labels < pictures.CLASSES]
        rows = rows[spread(len(rows), images)]
        return pictures.code_map(split.rows(rows), y[rows], classes)

    made = [
        ("near", "neighbours", f"Nearest neighbours in Y: {run.title}", lambda: pictures.neighbours(*codes())),
        ("maps", "map", f"t-SNE map of Y: {run.title}", mapped),
    ]
    if prior is not None:
        histogram = f"Y and its {prior} prior: {run.title}"
        made.append(("priors", "prior", histogram, lambda: pictures.code_histogram(codes()[1], prior)))
    return [
        (kind, Picture(album.path(f"{name}-{run.key}", key, draw), run.title, alt)) for kind, name, alt, draw in made
    ]


def estimated(folder: Path) -> Section:
    """What `dim mine` has drawn."""
    section = Section("mine", "Mutual information estimated")
    found = sorted(folder.rglob("*.png")) if folder.is_dir() else []
    if found:
        names = [path.relative_to(folder).with_suffix("").as_posix().replace("-", " ") for path in found]
        section.say("Figures of dim mine; their numbers are in the JSON and CSV files beside them.")
        section.show(
            [Picture(path, name, f"Figure of dim mine: {name}") for path, name in zip(found, names, strict=True)]
        )
    return section


def run(arguments: list[str]) -> None:
    """Runs `dim report ARGUMENTS`."""
    cpu.tune()
    report(**parse("dim report", report, arguments))
