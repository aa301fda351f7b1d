"""What the report calls things: titles of tasks, poolings and families, and the glossary."""

from alp_jax.core.run_files import (
    ALIGNMENT,
    ATTENTION,
    AUDIO_TO_TEXT,
    CAPTIONING,
    DECODER,
    DETECTION,
    FRAMES,
    JOINT,
    LOCKED,
    MEAN,
    RETRIEVAL,
    TEXT_TO_AUDIO,
    ZERO_SHOT,
)

FAMILIES = {
    "Sound events": ("sound_event",),
    "Speech": ("speaker", "persona", "tone", "language"),
    "Drums and instruments": ("drum", "instrument"),
    "Music": ("music", "music_genre", "music_tag", "genre", "soundtrack"),
}
SCRATCH = "scratch"  # the start of runs that begin from random parameters
OBJECTIVES = ("contrastive", "captioning", "hybrid", "tagging")
TASKS = {
    "sound_event": "Sound event",
    "speaker": "Speaker",
    "persona": "Persona (voice pack)",
    "tone": "Lexical tone",
    "language": "Spoken language",
    "drum": "Drum class",
    "instrument": "Instrument",
    "music_genre": "Music genre",
    "soundtrack": "Soundtrack",
    "tags": "Tags (several per clip)",
    DETECTION: "Sound event detection",
    TEXT_TO_AUDIO: "Text to audio",
    AUDIO_TO_TEXT: "Audio to text",
    CAPTIONING: "Captioning",
}
POOLINGS = {
    MEAN: "mean pooling",
    ATTENTION: "attention pooling",
    FRAMES: "single frames",
    ZERO_SHOT: "zero-shot prompts",
    LOCKED: "text side trained on frozen audio",
    DECODER: "own decoder",
    JOINT: "joint space",
    ALIGNMENT: "linear alignment",
}
LANGUAGE = (*RETRIEVAL, CAPTIONING)  # tasks with texts as answers or as queries
GLOSSARY = {
    "A, E, alpha": "scale, asymptote and exponent of the fitted law error = E + A * N^-alpha, N being pairs",
    "accuracy": "share of test clips whose class the probe names",
    "attention pooling": "the probe learns, with several heads, which frames to weigh before it classifies",
    "audio-seconds": "seconds of audio the model was trained on, repeats included, padding excluded",
    "balanced accuracy": "mean over classes of the share of their test clips that are right",
    "hybrid": "objective: both losses are added, and the encoder runs once for the two",
    "CIDEr-D": "how much of a generated caption is in the references of its clip and not in those of others, 0 to 10",
    "captioning": "objective: a decoder writes the caption from the encoder's frames, word by word or all at once",
    "chance": "what guessing reaches: the result of an uninformed answer on the same test clips",
    "clip": "one stretch of audio with its captions",
    "contrastive": "objective: audio and its caption are drawn together, other captions pushed away (InfoNCE)",
    "FLOPs": "floating-point operations of training, counted from the architecture",
    "floor": "the same probe on the mean and deviation of log-mel energies, without any encoder",
    "CPU, GPU": "central and graphics processing unit: what a run is computed on",
    "ablation": "runs that differ in one setting alone, compared with each other",
    "crossover": "the number of pairs from which the objective that trailed with fewer leads",
    "held-out rung": "the largest rung, left out of a fit and then predicted by it",
    "frozen encoder": "the encoder's parameters stay as trained; only the probe on top learns",
    "PSDS1": "polyphonic sound detection score: share of events found against false alarms per hour, less its "
    "deviation over classes (Bilen et al. 2020)",
    "zero-shot": "a clip is put into the class whose sentence is nearest in the joint space; nothing is fitted",
    "group": "what a split is made of (package, kit, persona, track): no group is in both training and test",
    "Huber loss": "squared for small residuals, absolute for large ones, so that one odd run does not bend the curve",
    "InfoNCE": "noise-contrastive estimation: name the right caption among those of the batch, and the right clip",
    "interval": "95% interval; of a result: bootstrap over test groups or clips, for a set of this size and an endless "
    "one; of a fit: bootstrap over runs and noise",
    "joint space": "audio and caption are compared by the model's own two towers; contrastive models have them",
    "linear alignment": "audio embeddings are mapped by ridge regression to words of captions, alike for every encoder",
    "log-mel": "energies of 80 mel-spaced frequency bands every 10 ms, on a logarithmic scale",
    "mAP, mAP@10": "mean average precision: area under precision against recall, averaged over classes or queries",
    "mAP@10 (reference)": "what the authors' code prints as mAP@10: hits numbered in caption order, or, with one right "
    "answer per query, 1 / rank averaged over the queries with a hit",
    "median rank": "middle position, over the queries, of the first right answer; 1 is best",
    "mean pooling": "the probe sees the average of the encoder's frames",
    "pairs (N)": "audio-caption pairs in the rung that the run was trained on; a clip with two captions is two pairs",
    "probe": "a linear classifier trained on the frozen encoder's output",
    "R@k": "recall at k: share of queries with a right answer among the first k",
    "rung": "a step of the data ladder; smaller rungs are contained in larger ones",
    "seed": "number that decides initial parameters and the order of the data",
    "steps": "updates of the parameters",
    "start": "the supervised encoder that runs begin with, as it is before them, under the same probes",
    "untrained": "the same encoder with its initial random parameters, under the same probes",
    "Zipformer": "the audio encoder: stacks of attention and convolution layers at several frame rates",
}


def task_title(task: str) -> str:
    """The report's name of a task; of one it does not know, the words of its own name."""
    return TASKS.get(task, task.replace("_", " ").capitalize())


def is_retrieval(task: str) -> bool:
    """Whether the task ranks clips or captions."""
    return task in RETRIEVAL


def kind(task: str) -> str:
    """The part of a report in which a task appears."""
    return "Retrieval" if is_retrieval(task) else "Captioning" if is_language(task) else "Probes"


def is_language(task: str) -> bool:
    """Whether texts are the answers or the queries of the task."""
    return task in LANGUAGE


def family(task: str) -> str:
    """The family that a task is counted in; a task without one is a family by itself."""
    if is_retrieval(task):
        return "Retrieval"
    return next((name for name, members in FAMILIES.items() if task in members), task_title(task))


def pooling_title(pooling: str) -> str:
    """The report's name of a pooling; of one it does not know, the words of its own name."""
    return POOLINGS.get(pooling, pooling.replace("_", " "))


def sentence(text: str) -> str:
    """``text`` with its first letter capitalised and the rest unchanged."""
    return text[:1].upper() + text[1:]


def setting_words(name: str) -> str:
    """A setting in words, without its path: ``data.clips_per_batch`` -> clips per batch."""
    last = name.rpartition(".")[2]
    return {"lr": "learning rate"}.get(last, last.replace("_", " "))


def setting_title(axis: str) -> str:
    """What the report calls an axis of an ablation: a column of the ledger or a setting."""
    return {"objective": "Objective", "model": "Model", "init": "Start"}.get(axis) or sentence(setting_words(axis))


def sweep_title(name: str) -> str:
    """A sweep with its arguments in words: ``study:init=runs/tagger,pairs=4k`` -> study, from tagger, 4k pairs."""
    file, _, arguments = name.partition(":")
    parts = [file.replace("_", " ")]
    for argument in filter(None, arguments.split(",")):
        key, _, value = argument.partition("=")
        value = value.rstrip("/").rpartition("/")[2]
        words = {"init": f"from {value}", "pairs": f"{value} pairs", "objective": value, "model": value}
        parts.append(words.get(key) or f"{setting_words(key)} {value}".strip())
    return ", ".join(parts)
