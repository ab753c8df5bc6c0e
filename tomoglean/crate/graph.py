"""Tell a study as linked data: a Workflow Run RO-Crate, profile Provenance Run Crate."""

from collections.abc import Mapping, Sequence
from typing import Any

from rocrate.model import ContextEntity, DataEntity
from rocrate.rocrate import ROCrate

from tomoglean.crate import copies, people
from tomoglean.crate.facts import Facts
from tomoglean.crate.parameters import RAW, Parameters, settings_of, stage_of
from tomoglean.crate.records import Job, versions
from tomoglean.crate.words import (
    BIOSCHEMAS,
    CONTEXT,
    CRATES,
    DONE,
    ENGINE,
    FAILED,
    PIP,
    PROFILES,
    SECONDS,
    SNAKEMAKE,
    Thing,
    about_file,
    distinct,
    filled,
    id_by_content,
    id_of,
    id_of_link,
    id_of_package,
    kind_of,
    kind_of_file,
    media_type,
    records_of,
    ref,
    refs,
    short,
)
from tomoglean.discretion import hide


def build(facts: Facts) -> Thing:
    """Tell what happened in a study.

    Parameters
    ----------
    facts
        What is known of it.

    Returns
    -------
    dict
        The JSON-LD document, ids relative to `results/`.
    """
    return _Graph(facts).document()


class _Graph:
    """One crate while it grows; every part adds its own entities."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.crate = ROCrate(version="1.1")
        self.parameters = Parameters()
        self.places: dict[str, str] = {kept.path: id_of(kept) for kept in facts.kept}
        self.uses: dict[str, list[Thing]] = {}
        self.scripts = copies.scripts()

    def document(self) -> Thing:
        self._note_parameters()
        self._files()
        self._raw()
        self._software()
        self._tools()
        self._workflow()
        self._parameters()
        actions = [*self._actions(), self._run()]
        self._root(actions)
        document: Thing = self.crate.metadata.generate()
        return document

    def add(self, id_: str, kind: str | list[str], **facts: Any) -> Thing:
        """Add an entity; lists of one and what is empty are written short."""
        self.crate.add(ContextEntity(self.crate, id_, properties=filled(kind, facts)))
        return ref(id_)

    def add_file(self, id_: str, kind: str | list[str], **facts: Any) -> Thing:
        """Add a file or folder, which is a part of the crate."""
        self.crate.add(DataEntity(self.crate, id_, properties=filled(kind, facts)))
        return ref(id_)

    # -- parameters ------------------------------------------------------------------

    def tool(self, rule: str) -> str:
        """Name of a rule's tool: its script's, since rules may share one."""
        path = self.scripts[rule].path if rule in self.scripts else rule
        return path.rsplit("/", 1)[-1].removesuffix(".py")

    def _note_parameters(self) -> None:
        makers = {f"results/{out}": self.tool(job.rule) for job in self.facts.jobs
                  for out in job.outputs}  # fmt: skip
        config = self.parameters.add("workflow", "in", "config", copies.CONFIG, "File")
        for table in copies.TABLES:
            self.parameters.add("workflow", "in", "tables", table, "File")
        for job in self.facts.jobs:
            tool = self.tool(job.rule)
            for name, value in settings_of(job).items():
                value_id, formal = self.parameters.setting(tool, name, value)
                self.uses.setdefault(job.name, []).append(ref(value_id))
                self.parameters.links[config, formal] = None
            for path in (*job.made, *job.raw):
                self._note_input(job, tool, path, makers.get(path))
            for path in job.outputs:
                self._note_output(tool, path)

    def _note_input(self, job: Job, tool: str, path: str, maker: str | None) -> None:
        stage = stage_of(path)
        if (place := self.place(path)) is None:
            return
        target = self.parameters.add(tool, "in", stage, place, self._kind(path))
        self.uses.setdefault(job.name, []).append(ref(place))
        if stage == RAW:
            source = self.parameters.add("workflow", "in", RAW, place, "File")
            self.parameters.links[source, target] = None
        elif maker:
            self.parameters.links[f"#{maker}/out/{stage}", target] = None

    def _note_output(self, tool: str, path: str) -> None:
        stage, place = stage_of(f"results/{path}"), self.places[path]
        kind = self._kind(f"results/{path}")
        source = self.parameters.add(tool, "out", stage, place, kind)
        target = self.parameters.add("workflow", "out", stage, place, kind)
        self.parameters.links[source, target] = None

    def place(self, path: str) -> str | None:
        """Id of a file that a job read: below results, or by its content."""
        if path.startswith("results/"):
            return self.places.get(path.removeprefix("results/"))
        sha256 = self.facts.raw.get(path)
        return id_by_content(sha256) if sha256 else None

    def _kind(self, path: str) -> str:
        folder = self.facts.folders.get(path.removeprefix("results/"), False)
        return "Dataset" if folder else "File"

    # -- files -----------------------------------------------------------------------

    def _files(self) -> None:
        given = self.parameters.by_example()
        own = {copies.WORKFLOW, *(script.path for script in self.scripts.values())}
        used = {self.scripts[job.rule].path for job in self.facts.jobs
                if job.rule in self.scripts}  # fmt: skip
        for kept in self.facts.kept:
            if kept.path == copies.WORKFLOW or kept.path in own & used:
                continue
            place = self.places[kept.path]
            self.add_file(
                place,
                kind_of_file(kept),
                exampleOfWork=refs(given.get(place, ())),
                **about_file(kept),
            )
        self.add(PIP, "CreativeWork", name="Requirements file format of pip")

    def _raw(self) -> None:
        """Tell files that lie outside results by their content, never by their folder."""
        given = self.parameters.by_example()
        names: dict[str, list[str]] = {}
        for path, sha256 in self.facts.raw.items():
            names.setdefault(sha256, []).append(hide(path))
        for sha256, (path, *others) in names.items():
            self.add_file(
                id_by_content(sha256),
                "File",
                name=path,
                alternateName=others,
                description="raw data, not part of the crate; its id is its content",
                encodingFormat=media_type(path),
                sha256=sha256,
                exampleOfWork=refs(given.get(id_by_content(sha256), ())),
            )

    # -- software --------------------------------------------------------------------

    def _software(self) -> None:
        for package, version in versions(self.facts.jobs):
            url = id_of_package(package, version)
            self.add(
                url, "SoftwareApplication", name=package, softwareVersion=version, url=url
            )
        self.add(
            self.facts.software,
            "SoftwareApplication",
            name="tomoglean",
            description=f"files of the checkout: {self.facts.state}",
            softwareVersion=self.facts.commit,
            url=self.facts.software,
            softwareRequirements=self._requirements(),
        )

    def _requirements(self) -> list[Thing]:
        return refs(id_of_package(*pair) for pair in versions(self.facts.jobs))

    def _tools(self) -> None:
        kept = {part.path: part for part in self.facts.kept}
        steps = self._rules()
        for tool, rules in self._rules_by_tool(steps).items():
            script = self.scripts.get(rules[0])
            there = script is not None and script.path in kept
            about = about_file(kept[script.path]) if script and there else {}
            add = self.add_file if there else self.add
            add(
                self._tool_id(rules[0]),
                ["File", "SoftwareSourceCode"] if there else "SoftwareSourceCode",
                **{**about, "name": tool},
                url=self.facts.software,
                version=self.facts.commit,
                input=refs(self.parameters.of(tool, "in", "set")),
                output=refs(self.parameters.of(tool, "out")),
                softwareRequirements=self._requirements(),
                mainEntity=ref(self.facts.software),
            )
        for position, rule in enumerate(steps, start=1):
            self._step(rule, position)
        for source, target in self.parameters.links:
            self.add(
                id_of_link(source, target),
                "ParameterConnection",
                sourceParameter=ref(source),
                targetParameter=ref(target),
            )

    def _rules(self) -> list[str]:
        """Rules in the order in which they first ran."""
        return list(dict.fromkeys(job.rule for job in self.facts.jobs))

    def _rules_by_tool(self, rules: Sequence[str]) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for rule in rules:
            found.setdefault(self.tool(rule), []).append(rule)
        return found

    def _tool_id(self, rule: str) -> str:
        path = self.scripts[rule].path if rule in self.scripts else ""
        return self.places.get(path, f"#tool/{self.tool(rule)}")

    def _step(self, rule: str, position: int) -> None:
        self.add(
            f"#step/{rule}",
            "HowToStep",
            name=rule,
            description=self.scripts[rule].meaning if rule in self.scripts else rule,
            position=str(position),
            workExample=ref(self._tool_id(rule)),
            connection=refs(
                id_of_link(*pair) for pair in self.parameters.into(self.tool(rule))
            ),
            buildInstructions=ref(copies.LOCK),
        )

    def _workflow(self) -> None:
        kept = {part.path: part for part in self.facts.kept}
        tools = dict.fromkeys(self._tool_id(rule) for rule in self._rules())
        self.add(BIOSCHEMAS, "CreativeWork", name="ComputationalWorkflow", version="1.0")
        self.add(
            SNAKEMAKE,
            "ComputerLanguage",
            name="Snakemake",
            url="https://snakemake.github.io",
        )
        self.add_file(
            copies.WORKFLOW,
            ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
            **{**about_file(kept[copies.WORKFLOW]), "name": "tomoglean"},
            conformsTo=ref(BIOSCHEMAS),
            programmingLanguage=ref(SNAKEMAKE),
            url=self.facts.software,
            version=self.facts.commit,
            hasPart=refs(tools),
            step=refs(f"#step/{rule}" for rule in self._rules()),
            image=ref(copies.DRAWING),
            input=refs(self.parameters.of("workflow", "in")),
            output=refs(self.parameters.of("workflow", "out")),
            connection=refs(id_of_link(*pair) for pair in self.parameters.into("workflow")),
            buildInstructions=ref(copies.LOCK),
            softwareRequirements=self._requirements(),
            mainEntity=ref(self.facts.software),
        )

    def _parameters(self) -> None:
        for formal in self.parameters.formals.values():
            self.add(
                formal.id,
                "FormalParameter",
                name=formal.name,
                description=formal.meaning,
                additionalType=kind_of(formal.kinds),
                workExample=refs(formal.examples),
            )
        for id_, (name, value, formal_id) in self.parameters.values.items():
            self.add(
                id_, "PropertyValue", name=name, value=value, exampleOfWork=ref(formal_id)
            )

    # -- what happened ---------------------------------------------------------------

    def _actions(self) -> list[Thing]:
        agent, actions = people.agent(self.facts.about), []
        for number, job in enumerate(self.facts.jobs, start=1):
            usage = self.add(
                f"#seconds/{number}", "PropertyValue", name="seconds",
                value=job.seconds, **SECONDS,
            )  # fmt: skip
            action = self.add(
                f"#job/{number}",
                "CreateAction",
                name=job.name,
                description=f"key {job.key}",
                instrument=ref(self._tool_id(job.rule)),
                object=distinct(self.uses.get(job.name, [])),
                result=refs(self.places[path] for path in job.outputs),
                startTime=job.started,
                endTime=job.ended,
                agent=ref(agent),
                actionStatus=DONE,
                resourceUsage=usage,
                subjectOf=refs(self.places[p] for p in records_of(job) if p in self.places),
            )
            control = self.add(
                f"#control/{number}", "ControlAction", name=f"step {job.name}",
                instrument=ref(f"#step/{job.rule}"), object=action, actionStatus=DONE,
            )  # fmt: skip
            actions += [action, control]
        return actions

    def _run(self) -> Thing:
        people.add(self.add, self.facts.about)
        jobs = range(1, len(self.facts.jobs) + 1)
        told = {
            "startTime": self.facts.started,
            "endTime": self.facts.ended,
            "agent": ref(people.agent(self.facts.about)),
            "actionStatus": FAILED if self.facts.error else DONE,
            "error": self.facts.error,
        }
        outputs = [self.places[out] for job in self.facts.jobs for out in job.outputs]
        raw = [ref(f) for f in self.parameters.by_example() if f.startswith("ni:")]
        asked = refs((copies.CONFIG, *copies.TABLES))
        run = self.add(
            "#run", "CreateAction", name="run of the workflow",
            description=self.facts.described, instrument=ref(copies.WORKFLOW),
            object=[*asked, *raw], result=refs(outputs), **told,
        )  # fmt: skip
        engine = [pair for pair in versions(self.facts.jobs) if pair[0] == ENGINE]
        self.add(
            "#engine", "OrganizeAction", name="run of Snakemake",
            instrument=ref(id_of_package(*engine[-1]) if engine else self.facts.software),
            object=refs(f"#control/{n}" for n in jobs), result=run, **told,
        )  # fmt: skip
        return run

    def _root(self, actions: list[Thing]) -> None:
        root = self.crate.root_dataset
        for id_, name in PROFILES.items():
            version = id_.rsplit("/", 1)[-1]
            self.add(id_, "CreativeWork", name=name, version=version)
        self.add("#licence", "CreativeWork", **people.licence(self.facts.about))
        facts = {
            "name": self.facts.title,
            "description": self.facts.described,
            "datePublished": self.facts.ended,
            "license": ref("#licence"),
            "author": ref(people.PERSON),
            "publisher": ref(people.ORGANISATION),
            "conformsTo": refs(PROFILES),
            "mainEntity": ref(copies.WORKFLOW),
            "mentions": [*actions, ref("#engine")],
        }
        for name, value in facts.items():
            root[name] = short(value)
        descriptor = self.crate.metadata
        descriptor["conformsTo"] = refs(CRATES)
        self.crate.metadata.extra_contexts.append(CONTEXT)
