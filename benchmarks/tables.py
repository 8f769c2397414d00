"""The tables of docs/performance.md, from the measurements in benchmarks/results.

    python benchmarks/tables.py [PAGE ...] [--check]

What stands between `<!-- table: NAME -->` and `<!-- end -->` on a page is written anew; all else is left as it is. The
names: peers, family, photos, embed, many, ranks, step, views, evaluation, import, save, at-once, recipe. A file of
results is one of: a record of `vergence bench` (--out); lines of a comparison with other libraries, each with what,
peer, method and a rate (.jsonl; a line without "peer" says date, commit, device and versions of those that follow);
medians of such a comparison; a record of benchmarks/save.py, recipe.py, family.py, photos.py, embed.py,
many_pictures.py or ranks.py. `--check` writes nothing, and exits with 1 where a page is not what the files say.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from vergence.bench.table import figure

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [ROOT / "docs" / "performance.md"]
NOT_RUN = "not run"

Record = dict[str, Any]
Cells = tuple[str, ...]


class Files:
    """All results of a folder, by kind, oldest first.

    Attributes:
        bench: records of `vergence bench`.
        peers: comparisons: date, commit, device, versions, title, unit, rates by contestant.
        saves: records of `benchmarks/save.py`.
        recipes: records of `benchmarks/recipe.py final`.
        photos: records of `benchmarks/photos.py`.
        embeddings: records of `benchmarks/embed.py`.
        many: records of `benchmarks/many_pictures.py`.
        families: records of `benchmarks/family.py`.
        ranks: records of `benchmarks/ranks.py`.
    """

    def __init__(self, folder: Path):
        self.bench: list[Record] = []
        self.peers: list[Record] = []
        self.saves: list[Record] = []
        self.recipes: list[Record] = []
        self.photos: list[Record] = []
        self.embeddings: list[Record] = []
        self.many: list[Record] = []
        self.families: list[Record] = []
        self.ranks: list[Record] = []
        kinds = {
            "photos": self.photos,
            "embeddings": self.embeddings,
            "many pictures": self.many,
            "family": self.families,
            "ranks": self.ranks,
        }
        for path in sorted(folder.glob("*.json*")):
            if path.suffix == ".jsonl":
                self.peers += of_lines([json.loads(line) for line in path.read_text().splitlines() if line.strip()])
                continue
            record = json.loads(path.read_bytes())
            if record.get("what") in ("vergence bench", "recipe"):
                if record["format"] != 1:
                    raise SystemExit(f"error: {path}: of format {record['format']}; this reads format 1")
                (self.recipes if record["what"] == "recipe" else self.bench).append(record)
            elif record.get("what") in kinds:
                kinds[record["what"]].append(record)
            elif "results" in record and record.get("what") != "watch":
                self.saves.append(record)
            elif "median" in record:
                self.peers.append(of_medians(record))
            elif record.get("what") not in ("two commits in turns", "recipe, tuning", "watch"):
                raise SystemExit(f"error: {path}: results of no kind that is known here")


def of_medians(record: Record) -> Record:
    rounds = record.get("rounds", {name: [value] for name, value in record["median"].items()})
    return {**record, "title": record["what"], "unit": "samples/s", "rates": rounds}


def of_lines(lines: Iterable[Record]) -> list[Record]:
    """One comparison for each piece of work; measurements that were disturbed and repeated count no more."""
    found: dict[tuple[Any, ...], Record] = {}
    about: Record = {}
    for line in lines:
        if "peer" not in line:
            about = line
            continue
        if not line.get("kept", True):
            continue
        views = line["what"] == "aug"
        unit, rate = ("views/s and core", "views_per_s_core") if views else ("samples/s", "samples_per_s")
        work = (line["what"], None if views else line.get("method"), line.get("batch"), line.get("size"))
        if work not in found:
            day = datetime.fromtimestamp(line["time"], UTC).date().isoformat() if "time" in line else "not recorded"
            about_work = {"date": day, "commit": "not recorded", "device": "not recorded"} | about
            found[work] = about_work | {"title": titled(*work), "unit": unit, "rates": {}}
        found[work]["rates"].setdefault(line["peer"], []).append(line[rate])
    return list(found.values())


def titled(what: str, method: str | None, batch: int | None, size: int | None) -> str:
    names = {"train": "end to end", "step": "the step alone", "aug": "views"}
    parts = [{"byol": "BYOL", "simclr": "SimCLR", "moco": "MoCo v2"}.get(method or "", method), names.get(what, what)]
    parts += [f"{size} px" if size else None, f"batch {batch}" if batch else None]
    return ", ".join(part for part in parts if part)


# --- tables -----------------------------------------------------------------------------------------------------------


def peers(files: Files) -> list[str]:
    """Each comparison by itself, the fastest first."""
    parts: list[list[str]] = []
    for record in files.peers:
        medians = {name: statistics.median(values) for name, values in record["rates"].items()}
        ours = medians.get("vergence")
        rows = [
            (name, figure(median), span(record["rates"][name]), "" if ours is None else f"{ours / median:.2f}")
            for name, median in sorted(medians.items(), key=lambda item: -item[1])
        ]
        lines = table(("library", f"{record['unit']}, median", "least to most", "vergence over it"), rows)
        note = [record["note"]] if record.get("note") else []
        parts += [[f"**{record['title']}**"], lines, [provenance(record)], note]
    return paragraphs(parts)


def save(files: Files) -> list[str]:
    parts: list[list[str]] = []
    for record in files.saves:
        rows = [
            (case, name, f"{seconds:.4f}", f"{found['ratio'][name]:.2f}" if name in found["ratio"] else "")
            for case, found in record["results"].items()
            for name, seconds in found["median"].items()
        ]
        parts += [table(("state", "how", "seconds, median", "durable over it"), rows), [provenance(record)]]
    return paragraphs(parts)


def photos(files: Files) -> list[str]:
    parts: list[list[str]] = []
    for record in files.photos:
        rows = []
        for size, rates in record["results"].items():
            wall, core = ({n: statistics.median(of[how]) for n, of in rates.items()} for how in ("wall", "core"))
            for name in sorted(wall, key=lambda name: -wall[name]):
                ratio = f"{wall['vergence'] / wall[name]:.2f}"
                rows.append((size, name, figure(wall[name]), span(rates[name]["wall"]), figure(core[name]), ratio))
        heads = ("photographs", "contestant", "pictures/s, median", "least to most", "and core", "vergence over it")
        parts += [table(heads, rows), [provenance(record)], [record["note"]] if "note" in record else []]
    return paragraphs(parts)


def embed(files: Files) -> list[str]:
    parts: list[list[str]] = []
    for record in files.embeddings:
        medians = {
            name: {what: statistics.median(values) for what, values in row.items()}
            for name, row in record["results"].items()
        }
        ours, rows = medians["vergence"]["core"], []
        for name, row in sorted(medians.items(), key=lambda item: -item[1]["core"]):
            wall, core = (figure(row[what]) for what in ("wall", "core"))
            spans = (span(record["results"][name][what]) for what in ("wall", "core"))
            rows.append(
                (name, wall, next(spans), core, next(spans), f"{ours / row['core']:.2f}", f"{row['most_mb']:,.0f}")
            )
        heads = (
            "contestant",
            "pictures/s, median",
            "least to most",
            "and core",
            "least to most",
            "vergence over it, a core",
            "most, MB",
        )
        memory = [(f"{row['pictures']:,}", f"{row['most_mb']:,}") for row in record["memory"]]
        parts += [table(heads, rows), table(("small pictures, by vergence", "most, MB"), memory), [provenance(record)]]
        parts += [[record["note"]]] if "note" in record else []
    return paragraphs(parts)


def many(files: Files) -> list[str]:
    parts: list[list[str]] = []
    heads = (
        "pictures",
        "store, GB",
        "listing, s",
        "first start, s",
        "most then, MB",
        "start, s",
        "own, MB",
        "most, MB",
    )
    for record in files.many:
        rows = [
            (
                f"{row['pictures']:,}",
                f"{row['store_bytes'] / 1e9:.2f}",
                f"{row['listing_s']:.2f}",
                f"{row['first_start_s']:.2f}",
                f"{row['first_most_mb']:,}",
                f"{row['start_s']:.2f}",
                f"{row['own_mb']:,}",
                f"{row['most_mb']:,}",
            )
            for row in record["results"]
        ]
        parts += [table(heads, rows), [provenance(record)]]
    return paragraphs(parts)


def ranks(files: Files) -> list[str]:
    parts: list[list[str]] = []
    for record in files.ranks:
        rows = [
            (kind, figure(statistics.median(rates)), span(rates), f"{record['ratios'][kind]:.2f}")
            for kind, rates in record["rates"].items()
        ]
        heads = ("on two cores", "pictures/s, median", "least to most", "over one process")
        spent, share = (record["hidden"][name] for name in ("seconds", "share"))
        note = f"Of {spent:.2f} s a step in which gradients travel, {share:.0%} lie beside the backward pass."
        parts += [table(heads, rows), [note], [provenance(record)]]
    return paragraphs(parts or [[NOT_RUN]])


FAMILY = (
    "method",
    "ours, kNN, %",
    "lightly's",
    "difference",
    "ours, linear, %",
    "lightly's",
    "difference",
    "s a step (core-seconds), ours",
    "lightly's",
    "verdict",
)


def family(files: Files) -> list[str]:
    parts: list[list[str]] = []
    for record in files.families:
        said = ", ".join(f"{name} {value}" for name, value in (record["settings"] | record["versions"]).items())
        parts += [table(FAMILY, family_rows(record["results"])), [f"{provenance(record)} {said}."]]
        parts += [[record["note"]]] if "note" in record else []
    return paragraphs(parts)


def family_rows(results: Iterable[Record]) -> Iterable[Cells]:
    """For each method mean and standard deviation over seeds, and the mean difference over those that both have."""
    of: dict[str, dict[str, dict[int, Record]]] = {}
    for one in results:
        of.setdefault(one["method"], {"ours": {}, "lightly": {}})[one["side"]][one["seed"]] = one
    for method, sides in of.items():
        whole = {side: {s: one for s, one in seeds.items() if "error" not in one} for side, seeds in sides.items()}
        failed = {side: len(seeds) - len(whole[side]) for side, seeds in sides.items()}
        cells: list[str] = []
        for probe in ("knn", "linear"):
            scores = {side: {s: one[probe] for s, one in seeds.items()} for side, seeds in whole.items()}
            both = [scores["ours"][s] - scores["lightly"][s] for s in scores["ours"] if s in scores["lightly"]]
            cells += [mean_of([*scores[side].values()], failed[side]) for side in ("ours", "lightly")]
            cells += [f"{statistics.mean(both):+.2f}" if both else ""]
        for seeds in whole.values():
            step, core = ([one[name] for one in seeds.values()] for name in ("step_s", "core_s"))
            cells += [f"{statistics.median(step):.4f} ({statistics.median(core):.4f})" if step else ""]
        yield (method, *cells, ", ".join(sorted({one["verdict"] for one in whole["ours"].values()})))


def mean_of(values: Sequence[float], failed: int) -> str:
    """Mean ± standard deviation, and how many have none."""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    mean = [f"{statistics.mean(values):.2f}{deviation}"] if values else []
    return "; ".join(mean + [f"{failed} ended by a fault"] * bool(failed))


def paragraphs(parts: Iterable[list[str]]) -> list[str]:
    """Parts of a page with an empty line between them."""
    lines = [line for part in parts if part for line in (*part, "")]
    return lines[:-1] or [f"*{NOT_RUN}*"]


def step(record: Record) -> Iterable[Cells]:
    for part, name in (("step", "step"), ("train", "end to end")):
        if part in record:
            found, reached = record[part], record[part]["achieved"]
            shares = ("tflops", "gb_per_s_every_operator", "gb_per_s_products_only")
            share, unfused, fused = (f"{reached[f'share_of_{name}']:.0%}" for name in shares)
            yield (
                work(record["settings"]["run"]),
                name,
                ranged(found["samples_per_s"]),
                ranged(found["step_ms"]),
                f"{reached['tflops']:.3g} ({share})",
                f"{reached['gb_per_s_every_operator']:.3g} ({unfused}; {fused})",
            )


def views(record: Record) -> Iterable[Cells]:
    for order, found in record.get("views", {}).items():
        core = ranged(found["views_per_core_s"]) if "views_per_core_s" in found else "—"
        yield work(record["settings"]["run"]), order, ranged(found["views_per_s"]), core


def evaluation(record: Record) -> Iterable[Cells]:
    if "evaluate" in record:
        found = record["evaluate"]
        pictures = f"{found['pictures']['fitted']:,} + {found['pictures']['scored']:,}"
        times = (ranged(found[name]) for name in ("features_s", "knn_s", "linear_s"))
        yield pictures, *times, f"{found['passes_ratio']:.3g}", f"{found['seconds_ratio']:.3g}"


def imports(record: Record) -> Iterable[Cells]:
    names = ("python_s", "import_vergence_s", "help_s", "import_torch_s", "import_torch_and_everything_s")
    if "import" in record:
        yield tuple(ranged(record["import"][name]) for name in names)


def at_once(record: Record) -> Iterable[Cells]:
    for found in record.get("at-once", {}).get("counts", ()):
        rate, gain = f"{found['samples_per_s']:,.4g}", f"{found['over_one']:.2f}"
        yield work(record["settings"]["run"]), str(found["runs"]), str(found["threads_each"]), rate, gain


def recipe(record: Record) -> Iterable[Cells]:
    """Over seeds the mean accuracy and the median seconds, and the least and the most."""
    for row in record["rows"]:
        of = {name: [run[name] for run in row["runs"]] for name in row["runs"][0]}
        accuracies = (f"{statistics.mean(of[n]):.2f} [{min(of[n]):.2f}-{max(of[n]):.2f}]" for n in ("linear", "knn"))
        times = (of[f"{name}_s"] for name in ("training", "evaluation", "whole"))
        seconds = (f"{statistics.median(s):,.4g} [{min(s):,.4g}-{max(s):,.4g}]" for s in times)
        yield work(row["run"]), f"{row['run']['epochs']}, {len(row['runs'])}", *accuracies, *seconds


def goals_reached(record: Record) -> str:
    """A recipe's note."""
    goals = record["seconds_to"].items()
    said = [f"{goal}% {'not reached' if s is None else f'in {s:,.4g} s'}" for goal, s in goals]
    protocol = record["rows"][0]["runs"][0]["protocol"]
    return f" By every seed, in the slowest one's whole run: {', '.join(said)}. Linear: {protocol}."


class Records(NamedTuple):
    """A table over all records of a kind.

    Attributes:
        heads: of the columns, after "where".
        rows: of a record, without where it was made.
        kind: of the records, an attribute of `Files`.
        wanted: machines that have a row; where one was not measured, it says so.
        note: what is said of a record below the table.
    """

    heads: str
    rows: Callable[[Record], Iterable[Cells]]
    kind: str = "bench"
    wanted: Sequence[str] = ("CPU", "GPU")
    note: Callable[[Record], str] = lambda _: ""

    def __call__(self, files: Files) -> list[str]:
        """A letter for each record that is shown, and what stands behind the letter below the table."""
        heads = ("where", *self.heads.split(" | "))
        body: list[Cells] = []
        below: list[str] = []
        kinds: set[str] = set()
        for record in getattr(files, self.kind):
            if some := list(self.rows(record)):
                kinds.add(where(record)[:3])
                mark = chr(ord("a") + len(below))
                body += [(f"{where(record)} [{mark}]", *row) for row in some]
                below.append(f"[{mark}] {provenance(record)}{self.note(record)}")
        body += [(name, NOT_RUN, *[""] * (len(heads) - 2)) for name in self.wanted if name not in kinds]
        return [*table(heads, body), *(["", "<br>\n".join(below)] if below else [])]


TABLES: dict[str, Callable[[Files], list[str]]] = {
    "peers": peers,
    "family": family,
    "photos": photos,
    "embed": embed,
    "many": many,
    "ranks": ranks,
    "step": Records("work | what | samples/s | ms a step | TFLOP/s (share) | GB/s, unfused (share; fused)", step),
    "views": Records("work | order | views/s | views/s and core", views),
    "evaluation": Records(
        "pictures | features, s | kNN, s | linear, s | 100 epochs: times the passes | time", evaluation
    ),
    "import": Records(
        "Python alone, s | import vergence | vergence --help | import torch | and all of vergence",
        imports,
        wanted=["CPU"],
    ),
    "save": save,
    "at-once": Records("work | runs at once | threads each | samples/s together | over one after the other", at_once),
    "recipe": Records(
        "work | epochs, seeds | linear, % | kNN, % | training, s | evaluation, s | whole run, s",
        recipe,
        kind="recipes",
        wanted=["GPU"],
        note=goals_reached,
    ),
}


def where(record: Record) -> str:
    here = record["environment"]
    return "GPU" if here["device"] == "cuda" else f"CPU, {here['threads']} thread{'s' if here['threads'] > 1 else ''}"


def work(run: Record) -> str:
    method, name = run["method"]["kind"].upper(), run["encoder"]["name"]
    return f"{method}, {name}, {run['views']['size']} px, batch {run['batch_size']}, {run['precision']}"


def provenance(record: Record) -> str:
    """Device, date, commit, versions, and how it was measured."""
    here = record.get("environment", {})
    commit = record["commit"] or f"vergence {here.get('vergence')}"
    commit += " with changes" if record.get("dirty") else ""
    if here:
        device = f"{here['device_name']}, {here['cores']} cores"
        versions = {name: here[name] for name in ("torch", "python")}
        how = rounds(record["settings"]) if "rounds" in record["settings"] else ""
    else:
        device, versions, how = record["device"], record.get("versions", {}), ""
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{device}; {record['date'][:10]}, {commit}{f'; {named}' if named else ''}{how}."


def rounds(settings: Record) -> str:
    pictures = f", pictures: {settings['pictures']}" if settings["pictures"] else ""
    return f"; {settings['rounds']} rounds of {settings['steps']} steps, compile {settings['compile']}{pictures}"


def ranged(value: dict[str, float]) -> str:
    """Median [least-most]."""
    return f"{figure(value['median'])} [{figure(value['min'])}-{figure(value['max'])}]"


def span(values: Sequence[float]) -> str:
    return f"{figure(min(values))}-{figure(max(values))}" if len(values) > 1 else "one round"


def table(heads: Cells, rows: Iterable[Cells]) -> list[str]:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


# --- pages ------------------------------------------------------------------------------------------------------------

MARKED = re.compile(r"(<!-- table: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def filled(page: str, source: Any, tables: Mapping[str, Callable[[Any], list[str]]] | None = None) -> str:
    """The page with its tables, those of `TABLES` or others, as their source has them."""
    tables = TABLES if tables is None else tables

    def fill(match: re.Match[str]) -> str:
        begin, name, _, end = match.groups()
        if name not in tables:
            raise SystemExit(f"error: unknown table {name!r}; known: {', '.join(tables)}")
        return "\n".join([begin.rstrip("\n"), "", *tables[name](source), "", end])

    if page.count("<!-- table: ") != len(MARKED.findall(page)):
        raise SystemExit("error: a `<!-- table: NAME -->` has no `<!-- end -->`")
    return MARKED.sub(fill, page)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", type=Path, nargs="*", default=PAGES, help="[docs/performance.md]")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a page is out of date")
    known = parser.parse_args(arguments)
    files = Files(RESULTS)
    old = []
    for path in known.pages:
        before = path.read_text()
        after = filled(before, files)
        if before != after:
            old.append(path)
            if not known.check:
                path.write_text(after)
    for path in old:
        print(f"{path}: {'out of date; run python benchmarks/tables.py' if known.check else 'written'}")
    return 1 if known.check and old else 0


if __name__ == "__main__":
    sys.exit(main())
