"""Choices on held-out predictions: which trial serves, how its parts are mixed, and how many labels are scored.

Mixtures are nested: one that predicts a fold was fitted to the other folds. What is better over many tasks is taken
unless held-out rows say otherwise by more than one standard error: few of them must not decide on chance.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from worker.cpt.encoding.shots import Shots
from worker.cpt.scoring.mixture import Mixture, fit_mixture, prior_mixture
from worker.cpt.scoring.predict import share_out
from worker.cpt.selection.folds import FEWEST, balanced_folds
from worker.cpt.turn import ALONE, Turn

#: What a mixture weighs its parts unless held-out rows say otherwise: label scores, states, sentence vectors.
LABELS_WEIGHT: Final = 0.5
STATES_WEIGHT: Final = 0.6
ENCODER_WEIGHT: Final = 0.6
#: The same beside an encoder that is tuned, where held-out rows can say otherwise. Such rows are predicted with fewer
#: examples than serve, and alone give it too little (trec, agnews, six draws: 83.8 to 84.2%, NLL .471 to .462).
BESIDE_TUNED_WEIGHTS: Final = (0.3, 0.5, 0.8)
#: The same where rows are too few to fit anything to: these weights then make the confidences too. On six draws of two
#: examples a label of trec and agnews the usual ones gave as many right, but an NLL of .624 in place of .577 and an ECE
#: of .068 in place of .041.
FEW_BESIDE_TUNED_WEIGHTS: Final = (0.3, 0.5, 0.5)
#: A language that a model hardly knows is read in short pieces, down to single bytes. What such a model adds is noise,
#: which few held-out rows cannot tell, so its parts then begin with less: all from this share of the bytes a token that
#: it reads of plain English, nothing at the other.
_KNOWN_TEXT: Final = "The parcel that I ordered last week has not arrived yet, and nobody could tell me where it is."
_KNOWN_SHARE: Final = 0.8
_SPELLED_SHARE: Final = 0.25
#: Examples whose tokens are counted to know.
_COUNTED: Final = 64
#: What the encoder weighs where it is alone.
_LONE_WEIGHT: Final = 1.0
#: Held-out rows that decide anything at least: fewer follow chance. Eight chose no step of tuning where tuning gained 4
#: points; a mixture fitted to 12 cost up to 6 points and raised the NLL from 0.9 to 1.3.
FEWEST_DECIDING: Final = 16
#: Up to so many labels all are always scored.
FEW_LABELS: Final = 16
#: Labels that are scored instead of all, the fewest first.
_SHORTLISTS: Final = (0, 4, 8, 12, 16)
#: Over several tasks of 20 to 77 labels so many, or more, changed no accuracy and cost up to 0.021 of NLL, which is
#: therefore allowed them. With 77 labels a query then takes 1.5 (alone) to 1.9 times (in a batch) as long as with 2.
_USUAL_SHORTLIST: Final = 8
_USUAL_LOSS: Final = 0.021
_SMALLEST: Final = 1e-12

_Fit = Callable[[Sequence[int]], Callable[[Sequence[int]], Tensor]]


def fluency(shots: Shots) -> float:
    """From 0 to 1: how well the language model knows the texts' language, by the tokens that it reads them in."""
    numbers = range(0, len(shots), max(1, len(shots) // _COUNTED))
    texts = [shots.texts[number] for number in numbers]
    share = _bytes_of_token(shots.tokenizer, texts) / _bytes_of_token(shots.tokenizer, [_KNOWN_TEXT])
    return min(1.0, max(0.0, (share - _SPELLED_SHARE) / (_KNOWN_SHARE - _SPELLED_SHARE)))


def _bytes_of_token(tokenizer: Any, texts: Sequence[str]) -> float:
    # What splits special tokens is state of the tokenizer, which other threads share: all calls have it alike.
    rows = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return sum(len(text.encode()) for text in texts) / max(1, sum(map(len, rows)))


def prior_weights(shots: Shots, states: bool, encoder: bool, tuned: bool = False, rows: int = 0) -> list[float]:
    """What label scores, and then states and encoder if there are any, weigh unless held-out rows say otherwise.

    tuned: whether the encoder is. rows: those that are held out.
    """
    usual = (LABELS_WEIGHT, STATES_WEIGHT, ENCODER_WEIGHT)
    if tuned:
        usual = BESIDE_TUNED_WEIGHTS if rows >= FEWEST_DECIDING else FEW_BESIDE_TUNED_WEIGHTS
    if not encoder:
        return [usual[0], *usual[1:2] * states]
    share = fluency(shots)
    lone = _LONE_WEIGHT + share * (usual[2] - _LONE_WEIGHT)
    return [share * usual[0], *[share * usual[1]] * states, lone]


def mixture_of(parts: Tensor, truth: Tensor, prior: Sequence[float], calibrated: bool, turn: Turn = ALONE) -> Mixture:
    """The mixture of held-out log-probabilities [M, N, L]; the prior's own if not `calibrated`, or for few rows."""
    if not calibrated or len(truth) < FEWEST_DECIDING:
        return prior_mixture(prior, parts.shape[2])
    return fit_mixture(parts, truth, prior, turn)


def nested(fit: _Fit, truth: Tensor, seed: int) -> Tensor:
    """[N, ...] predictions for each row by what was fitted to the rows of the other folds.

    `fit` takes places of rows and gives what predicts others.
    """
    rows = range(len(truth))
    if len(truth) < 2 * FEWEST:
        return fit([])(rows)
    folds = balanced_folds(rows, truth.tolist(), seed)
    parts: dict[int, Tensor] = {}
    for fold in folds:
        out = set(fold)
        predicted = fit([row for row in rows if row not in out])(fold)
        parts.update(zip(fold, predicted, strict=True))
    return torch.stack([parts[row] for row in rows])


def nested_mixture(
    parts: Tensor, truth: Tensor, prior: Sequence[float], calibrated: bool, seed: int, turn: Turn = ALONE
) -> Tensor:
    """[N, L] probabilities of held-out log-probabilities [M, N, L] by mixtures that have not seen them."""

    def fit(kept: Sequence[int]) -> Callable[[Sequence[int]], Tensor]:
        mixture = mixture_of(parts[:, list(kept)], truth[list(kept)], prior, calibrated, turn)
        return lambda rows: mixture.probabilities(parts[:, list(rows)])

    return nested(fit, truth, seed)


def losses(probabilities: Tensor, truth: Tensor) -> Tensor:
    """[N] negative log-likelihoods."""
    return -probabilities.gather(1, truth[:, None]).clamp_min(_SMALLEST).log().flatten()


def beyond_chance(better: Tensor, worse: Tensor) -> bool:
    """Whether losses [N] are less than others of the same rows by more than one standard error."""
    gain = worse - better
    if len(gain) < 2:
        return False
    return gain.mean().item() > (gain.std() / len(gain) ** 0.5).item()


def choose(preferred: int, found: Mapping[int, Tensor], fewest: int = FEWEST_DECIDING) -> int:
    """The number of the trial to serve, of those with losses [N] of the same rows.

    The preferred one, unless so many rows or more say that another is better beyond chance; of those the best.
    """
    best = preferred
    if len(found[preferred]) < fewest:
        return best
    for number in sorted(found):
        if beyond_chance(found[number], found[preferred]) and found[number].mean() < found[best].mean():
            best = number
    return best


def shortlist_of(
    parts: Tensor, truth: Tensor, prior: Sequence[float], seed: int, turn: Turn = ALONE
) -> tuple[int | None, Mixture, Tensor]:
    """How many labels to score, None for all, the mixture of the heads alone, and nested probabilities [N, L].

    As few as show no loss on held-out log-probabilities [M, N, L], of which the first are the label scores' and the
    last choose the shortlist. Fewer rows than labels cannot tell, so that fewer labels than usual are not tried; as
    many as usual may lose as little as they do on other tasks.
    """
    everything = nested_mixture(parts, truth, prior, True, seed, turn)
    cheap = mixture_of(parts[1:], truth, prior[1:], True, turn)
    labels = parts.shape[2]
    if labels <= FEW_LABELS or len(parts) < 2:
        return None, cheap, everything
    counts = [count for count in _SHORTLISTS if len(truth) >= labels or count >= _USUAL_SHORTLIST]

    def fit(kept: Sequence[int]) -> Callable[[Sequence[int]], Tensor]:
        whole = mixture_of(parts[:, list(kept)], truth[list(kept)], prior, True, turn)
        heads = mixture_of(parts[1:, list(kept)], truth[list(kept)], prior[1:], True, turn)
        return lambda rows: torch.stack([shortlisted(parts[:, list(rows)], whole, heads, count) for count in counts], 1)

    for count, found in zip(counts, nested(fit, truth, seed).unbind(1), strict=True):
        allowed = _USUAL_LOSS if count >= _USUAL_SHORTLIST else 0.0
        if not beyond_chance(losses(everything, truth) + allowed, losses(found, truth)):
            return count, cheap, found
    return None, cheap, everything


def shortlisted(parts: Tensor, whole: Mixture, heads: Mixture, count: int) -> Tensor:
    """[N, L] as they would be predicted where only the `count` likeliest labels by the last part are scored."""
    probabilities = heads.probabilities(parts[1:])
    if not count:
        return probabilities
    listed = parts[-1].topk(count, dim=1).indices
    return share_out(whole, probabilities, listed, parts[0].gather(1, listed), parts[1:])
