"""The plug points (small abstract classes) and the protocols of the three roles.

A plug-in is a frozen dataclass: its hyper-parameters are its fields, it is configured, pickled and
printed. What it needs to run (a tokenizer, a process pool) it is handed, or opens inside the role.
Adding one is a new file and its test; a recipe imports it. There is no registry.
"""

from rlstep.adapters.adapter import Adapter as Adapter
from rlstep.aggregation.aggregator import Aggregator as Aggregator
from rlstep.interfaces.benchmarks import Benchmark as Benchmark
from rlstep.interfaces.benchmarks import Case as Case
from rlstep.interfaces.curriculum import Choice as Choice
from rlstep.interfaces.curriculum import Curriculum as Curriculum
from rlstep.interfaces.curriculum import Draw as Draw
from rlstep.interfaces.curriculum import Measurement as Measurement
from rlstep.interfaces.environments import Between as Between
from rlstep.interfaces.environments import Environment as Environment
from rlstep.interfaces.environments import Episode as Episode
from rlstep.interfaces.environments import TurnFormat as TurnFormat
from rlstep.interfaces.examples import Examples as Examples
from rlstep.interfaces.examples import StartModel as StartModel
from rlstep.interfaces.judges import Ask as Ask
from rlstep.interfaces.judges import Judge as Judge
from rlstep.interfaces.judges import JudgeModel as JudgeModel
from rlstep.interfaces.judges import Question as Question
from rlstep.interfaces.losses import COLUMNS as COLUMNS
from rlstep.interfaces.losses import AdvantageBatch as AdvantageBatch
from rlstep.interfaces.losses import Batch as Batch
from rlstep.interfaces.losses import BatchT as BatchT
from rlstep.interfaces.losses import LabelBatch as LabelBatch
from rlstep.interfaces.losses import Loss as Loss
from rlstep.interfaces.losses import LossOutput as LossOutput
from rlstep.interfaces.losses import PairBatch as PairBatch
from rlstep.interfaces.losses import TokenBatch as TokenBatch
from rlstep.interfaces.merging import Merger as Merger
from rlstep.interfaces.roles import Answer as Answer
from rlstep.interfaces.roles import GenerateRole as GenerateRole
from rlstep.interfaces.roles import LearnerRole as LearnerRole
from rlstep.interfaces.roles import ScoreRole as ScoreRole
from rlstep.interfaces.roles import Tokenizer as Tokenizer
from rlstep.interfaces.rollouts import AskContext as AskContext
from rlstep.interfaces.rollouts import Conversing as Conversing
from rlstep.interfaces.rollouts import Roles as Roles
from rlstep.interfaces.rollouts import RolloutContext as RolloutContext
from rlstep.interfaces.rollouts import RolloutStrategy as RolloutStrategy
from rlstep.interfaces.rollouts import SampleOne as SampleOne
from rlstep.interfaces.samples import SampleBuilder as SampleBuilder
from rlstep.interfaces.scoring import Item as Item
from rlstep.interfaces.scoring import Labeller as Labeller
from rlstep.interfaces.scoring import Verifier as Verifier
from rlstep.interfaces.sinks import OpenSink as OpenSink
from rlstep.interfaces.sinks import RunStart as RunStart
from rlstep.interfaces.sinks import Sink as Sink
from rlstep.interfaces.step_models import LabelView as LabelView
from rlstep.interfaces.step_models import Reader as Reader
from rlstep.interfaces.step_models import StepInputs as StepInputs
from rlstep.interfaces.step_models import StepLayout as StepLayout
from rlstep.interfaces.step_models import StepModel as StepModel
from rlstep.interfaces.steps import StepSplitter as StepSplitter
from rlstep.interfaces.tasks import PromptSet as PromptSet
from rlstep.interfaces.tasks import StepOracle as StepOracle
from rlstep.interfaces.tasks import Task as Task
from rlstep.interfaces.tools import CallFormat as CallFormat
from rlstep.interfaces.tools import Tool as Tool
from rlstep.optimizers.optimizer import Optimizer as Optimizer
