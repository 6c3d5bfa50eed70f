"""What decides a tuned context: examples, template, hyperparameters; and the plan a worker makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Annotated, Any, Final, Literal, LiteralString, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from app.contract.names import ErrorCode
from app.contract.payload import Payload
from app.contract.texts import Characters, DescribedLabel, Label, LabelOrName, Text

MAX_EXAMPLES: Final = 10_000
MAX_CALIBRATION_TEXTS: Final = 10_000
MAX_LABELS: Final = 256
#: A day: the longest that a search may be asked to take.
MAX_SECONDS: Final = 86_400


class Example(Payload):
    """A text and its label."""

    text: Text
    label: Label


def _placeholder(template: str, name: str, part: str) -> None:
    if template.count(name) != 1:
        raise PydanticCustomError(
            ErrorCode.TEMPLATE_INVALID, "template {part} must contain {name} exactly once", {"part": part, "name": name}
        )


TemplatePart = Annotated[Characters, Field(max_length=2_000)]


class Template(Payload):
    """How an example is written: input part, separator, output part, and what stands between examples."""

    input: TemplatePart = "input: {text}"
    separator: TemplatePart = "\n"
    output: TemplatePart = "output: {label}"
    between: TemplatePart = "\n\n"

    @model_validator(mode="after")
    def _placeholders(self) -> Template:
        _placeholder(self.input, "{text}", "input")
        _placeholder(self.output, "{label}", "output")
        return self


Auto = Literal["auto"]


class TrialSettings(Payload):
    """One configuration that a search of method "auto" tries as a whole.

    ``steps`` is how far each prompt is tuned, ``context_examples`` how many examples stand in each at most,
    ``examples`` how many are read under each at most, and ``scored_examples`` for how many of them all labels are
    scored at most: for every one that is read where it is not given, with 0 for none, and the heads alone predict.
    ``prompts`` is how many serve together at most.
    """

    model_config = ConfigDict(strict=True)

    steps: Annotated[int, Field(ge=0, le=10_000)]
    context_examples: Annotated[int, Field(ge=1, le=MAX_EXAMPLES)]
    examples: Annotated[int, Field(ge=1, le=MAX_EXAMPLES)]
    prompts: Annotated[int, Field(ge=1, le=16)]
    scored_examples: Annotated[int, Field(ge=0, le=MAX_EXAMPLES)] | None = None


class Hyperparameters(Payload):
    """How a context is tuned; ``"auto"`` leaves a value to the service. Values of another JSON type are refused.

    ``method`` "cpt" is the reference exactly, "icl" tunes nothing, "auto" holds examples out to choose what is best and
    is then calibrated. The method gives the values that are left to the service, and ignores what it has no use for.

    - ``epsilon_unit``: "reference" multiplies both epsilons by sqrt(hidden / 2048) as the reference does,
      "embedding_norm" by the mean norm of the base model's embeddings.
    - ``weighted_loss_type`` "decay" weighs a context label by ``loss_decay_factor`` to the power of its distance from
      the training example; a factor of 0 trains on the training examples' labels alone.
    - ``leave_one_out`` hides a training example's own copy in the context from it; ``token_dropout`` hides tokens at
      random.
    - ``learning_rate_schedule`` "cosine" lets the learning rate fall to nothing over the steps.
    - ``cross_validation`` holds out, to report and to choose: method "auto" serves two prompts, each tuned
      without half of the examples, or one that is not tuned where no label is scored; other methods tune on
      folds besides.
    - ``early_stopping`` takes the trial that held-out examples speak for, not the last that was done.
    - ``calibration`` subtracts from the label scores what a prompt says of any text, and fits a temperature and a
      bias for each label to what was held out.
    - ``head`` mixes in logistic regression on the hidden states of the pass that scores the labels, ``encoder`` one on
      the vectors of a sentence encoder: the first, unless held-out examples speak for another.
    - ``encoder_steps`` is how many contrastive steps tune the first sentence encoder; 0 leaves it as it is.
    - ``max_seconds`` bounds the search of method "auto", unless it is "none". ``trials`` (those of another job's
      hyperparameters) takes the place of that bound: all of them are run whole.
    - ``context_examples`` is how many of the examples stand in a prompt; method "auto" chooses which.
    - ``target_error`` is the share of wrong answers above the threshold that the report recommends, 0.000001 at least.
    """

    model_config = ConfigDict(strict=True)

    method: Literal["auto", "cpt", "icl"] = "auto"
    steps: Annotated[int, Field(ge=1, le=10_000)] | Auto = "auto"
    learning_rate: Annotated[float, Field(gt=0, le=10)] | Auto = "auto"
    batch_size: Annotated[int, Field(ge=1, le=MAX_EXAMPLES)] | Auto = "auto"
    seed: int = Field(default=0, ge=0, lt=2**63)
    projection_epsilon: Annotated[float, Field(ge=0, le=1_000)] | Auto = "auto"
    projection_format_epsilon: Annotated[float, Field(ge=0, le=1_000)] | Auto = "auto"
    weighted_loss_type: Literal["none", "decay", "auto"] = "auto"
    loss_decay_factor: Annotated[float, Field(ge=0, le=1)] | Auto = "auto"
    leave_one_out: bool | Auto = "auto"
    token_dropout: Annotated[float, Field(ge=0, lt=1)] | Auto = "auto"  # noqa: S105 - not a password
    epsilon_unit: Literal["reference", "embedding_norm", "auto"] = "auto"
    learning_rate_schedule: Literal["constant", "cosine", "auto"] = "auto"
    cross_validation: bool | Auto = "auto"
    early_stopping: bool | Auto = "auto"
    calibration: bool | Auto = "auto"
    head: bool | Auto = "auto"
    encoder: bool | Auto = "auto"
    encoder_steps: Annotated[int, Field(ge=0, le=1_000)] | Auto = "auto"
    max_seconds: Annotated[float, Field(gt=0, le=MAX_SECONDS)] | Literal["auto", "none"] = "auto"
    context_examples: Annotated[int, Field(ge=1, le=MAX_EXAMPLES)] | Auto = "auto"
    target_error: float = Field(default=0.05, ge=1e-6, lt=1)
    trials: Annotated[tuple[TrialSettings, ...], Field(min_length=1, max_length=16, strict=False)] | None = None


class ResolvedHyperparameters(Payload):
    """The values a job runs with; once it has succeeded, those that were chosen.

    ``batch_size`` None is all training examples in one step.
    """

    method: Literal["auto", "cpt", "icl"]
    steps: int
    learning_rate: float
    batch_size: int | None
    seed: int
    projection_epsilon: float
    projection_format_epsilon: float
    weighted_loss_type: Literal["none", "decay"]
    loss_decay_factor: float
    leave_one_out: bool
    token_dropout: float
    epsilon_unit: Literal["reference", "embedding_norm"] = "reference"
    learning_rate_schedule: Literal["constant", "cosine"] = "constant"
    cross_validation: bool = False
    early_stopping: bool = False
    calibration: bool = False
    head: bool = False
    encoder: bool = False
    encoder_steps: int = 0
    max_seconds: float | None = None
    context_examples: int = 1
    target_error: float = 0.05
    trials: tuple[TrialSettings, ...] = ()


#: What only the whole shows is told by its own code; the schema says it too.
_LABELS_SCHEMA: Final = Field(json_schema_extra={"minItems": 2, "maxItems": MAX_LABELS, "uniqueItems": True})
Labels = Annotated[tuple[LabelOrName, ...], _LABELS_SCHEMA]


class TuningSpec(Payload):
    """All that decides a tuned context, as the user gave it.

    ``examples`` form the context and are trained on; ``training_examples`` are trained on and stay out of the context;
    ``validation_examples`` are only measured. ``calibration_texts`` have no label and are like those to be classified.
    ``labels`` None means those of the examples, in order of appearance.
    """

    examples: tuple[Example, ...]
    training_examples: tuple[Example, ...] = ()
    validation_examples: tuple[Example, ...] = ()
    calibration_texts: tuple[Text, ...] = ()
    labels: Labels | None = None
    template: Template = Template()
    hyperparameters: Hyperparameters = Hyperparameters()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self.check()
        return self

    def check(self) -> None:
        """Check what only the whole shows. Raises PydanticCustomError."""
        everything = dict(self.pointed())
        _check_count(len(everything), MAX_EXAMPLES, ErrorCode.TOO_MANY_EXAMPLES, "examples", "/examples")
        texts = len(self.calibration_texts)
        _check_count(texts, MAX_CALIBRATION_TEXTS, ErrorCode.TOO_MANY_INPUTS, "texts", "/calibration_texts")
        if not self.examples:
            raise _fault(ErrorCode.TOO_FEW_LABELS, "/examples", "must not be empty")
        check_labels(self.label_names, "/examples" if self.labels is None else "/labels")
        _check_examples(everything, set(self.label_names))

    def pointed(self) -> Iterator[tuple[str, Example]]:
        """Every example with the JSON pointer to it: of the context, outside it, for validation."""
        for name in ("examples", "training_examples", "validation_examples"):
            yield from ((f"/{name}/{index}", example) for index, example in enumerate(getattr(self, name)))

    @property
    def label_names(self) -> tuple[str, ...]:
        """The label set, in the order in which it is reported."""
        if self.labels is not None:
            return names_of(self.labels)
        return tuple(dict.fromkeys(e.label for e in (*self.examples, *self.training_examples)))

    @property
    def label_descriptions(self) -> dict[str, str]:
        """Descriptions by label, of those labels that have one."""
        described = [one for one in self.labels or () if isinstance(one, DescribedLabel)]
        return {one.name: one.description for one in described if one.description is not None}


def _fault(code: ErrorCode, param: str, message: LiteralString, **values: Any) -> PydanticCustomError:
    """A fault that only the whole shows; ``param`` is the JSON pointer to where it is."""
    return PydanticCustomError(code, message, {**values, "param": param})


def _check_count(count: int, limit: int, code: ErrorCode, noun: str, param: str) -> None:
    if count > limit:
        message: LiteralString = "{count} {noun} given; at most {limit} are allowed"
        raise _fault(code, param, message, count=count, noun=noun, limit=limit)


def names_of(labels: Sequence[LabelOrName]) -> tuple[str, ...]:
    """The names of labels, in their order."""
    return tuple(one if isinstance(one, str) else one.name for one in labels)


def check_labels(labels: Sequence[str], param: str) -> None:
    """Check a label set. Raises PydanticCustomError."""
    if len(set(labels)) != len(labels):
        raise _fault(ErrorCode.INVALID_REQUEST, param, "labels must be unique")
    if len(labels) < 2:
        raise _fault(ErrorCode.TOO_FEW_LABELS, param, "at least two different labels are needed")
    _check_count(len(labels), MAX_LABELS, ErrorCode.TOO_MANY_LABELS, "labels", param)


def _check_examples(examples: Mapping[str, Example], labels: Set[str]) -> None:
    """Each has a known label, and none contradicts another."""
    seen: dict[str, str] = {}
    for pointer, example in examples.items():
        if example.label not in labels:
            raise _fault(ErrorCode.LABEL_UNKNOWN, f"{pointer}/label", "is not in the label set")
        if seen.setdefault(example.text, example.label) != example.label:
            raise _fault(ErrorCode.CONTRADICTING_EXAMPLES, pointer, "the same text has another label elsewhere")


class BudgetOffer(Payload):
    """What a bound on the seconds of a search would buy; ``max_seconds`` None is no bound."""

    max_seconds: float | None
    estimated_seconds: float
    trials: tuple[TrialSettings, ...]
    encoder_steps: int = 0


class Plan(Payload):
    """A worker's answer to what a `TuningSpec` would need: token counts, resolved values and an estimate.

    ``context_tokens`` are those of all prompts: exact, but about so many where method "auto" is still to choose the
    examples. ``total_steps`` are those of all trials. ``budgets`` say what other bounds on the time would buy.
    """

    context_tokens: int
    longest_example_tokens: int
    context_limit: int
    training_examples: int
    hyperparameters: ResolvedHyperparameters
    total_steps: int
    estimated_seconds: float
    budgets: tuple[BudgetOffer, ...] = ()
