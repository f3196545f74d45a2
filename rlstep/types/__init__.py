"""The records of rlstep, in the order in which they are made.

    Prompt -> Request -> Completion -> Rollout -> Group -> samples (sequences, pairs, labels)

All are frozen and complete at birth: a stage that adds something makes a new record. Token and
logprob fields are compact numpy arrays; tensors exist only from the batch on (tensors/batching.py).

Dimensions: P prompt tokens, T completion tokens, K steps of one completion, L tokens of a whole
sequence (prompt and completion). Spans are half-open, `[start, end)`.
"""

from rlstep.types.arrays import Bools as Bools
from rlstep.types.arrays import Floats as Floats
from rlstep.types.arrays import Ints as Ints
from rlstep.types.arrays import TokenIds as TokenIds
from rlstep.types.completions import Completion as Completion
from rlstep.types.completions import Likeliest as Likeliest
from rlstep.types.completions import Observed as Observed
from rlstep.types.completions import Prompt as Prompt
from rlstep.types.completions import Request as Request
from rlstep.types.completions import Sampling as Sampling
from rlstep.types.completions import VersionSpan as VersionSpan
from rlstep.types.episodes import Action as Action
from rlstep.types.episodes import BrokenCall as BrokenCall
from rlstep.types.episodes import Call as Call
from rlstep.types.episodes import History as History
from rlstep.types.episodes import Observation as Observation
from rlstep.types.rollouts import Group as Group
from rlstep.types.rollouts import Rollout as Rollout
from rlstep.types.rollouts import Step as Step
from rlstep.types.samples import AdvantageSamples as AdvantageSamples
from rlstep.types.samples import Counts as Counts
from rlstep.types.samples import LabelSamples as LabelSamples
from rlstep.types.samples import Pair as Pair
from rlstep.types.samples import PairSamples as PairSamples
from rlstep.types.samples import Samples as Samples
from rlstep.types.samples import Sequence as Sequence
from rlstep.types.scores import Failure as Failure
from rlstep.types.scores import OutcomeScore as OutcomeScore
from rlstep.types.scores import RolloutScore as RolloutScore
from rlstep.types.scores import Score as Score
from rlstep.types.scores import StepScores as StepScores
from rlstep.types.scores import TokenScores as TokenScores
from rlstep.types.scores import Verdict as Verdict
from rlstep.types.scores import Votes as Votes
