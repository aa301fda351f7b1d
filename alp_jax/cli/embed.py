"""``alp embed``: one vector per audio file of a folder, from the frozen encoder of a run or an import."""

import argparse

from alp_jax.core.storage import local_path, location

EXAMPLE = "alp embed --model runs/demo --audio my_audio --out emb.parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", required=True, type=location, metavar="DIR", help="folder of a run or of an imported encoder"
    )
    parser.add_argument("--step", type=int, metavar="N", help="which checkpoint; default: the latest")
    parser.add_argument(
        "--audio", required=True, type=local_path, metavar="DIR", help="folder of audio files, with those below it"
    )
    parser.add_argument(
        "--out",
        required=True,
        type=local_path,
        metavar="FILE",
        help="file to make, .npz or .parquet: path, seconds and embedding, sorted by path; after a stop, the same "
        "command resumes",
    )
    parser.add_argument(
        "--pooling",
        choices=("mean", "joint"),
        default="mean",
        help="mean over the encoder's frames (default), or the audio projection of a contrastive model",
    )
    parser.add_argument(
        "--window_seconds", type=float, default=30.0, metavar="S", help="longer files are cut into windows (default 30)"
    )
    parser.add_argument(
        "--stride_seconds",
        type=float,
        default=0.0,
        metavar="S",
        help="from window to window; default: no overlap; the mean is over the frames of all windows",
    )
    parser.add_argument("--batch_size", type=int, default=8, metavar="N", help="pieces encoded together (default 8)")
    parser.add_argument(
        "--max_seconds",
        type=float,
        default=1800.0,
        metavar="S",
        help="longer files are left out (default 1800); a worker takes up to 1 GB for an hour of 44.1 kHz",
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="decoding processes (default 2)")


def run(args: argparse.Namespace) -> dict:
    """Embeds the folder and prints where the vectors are and how many files could not be used."""
    from alp_jax.core.errors import UserError
    from alp_jax.parallel.runtime import setup_runtime

    if not args.audio.is_dir():
        raise UserError(f"--audio {args.audio} is not a folder")
    setup_runtime()
    from alp_jax.config import to_dict
    from alp_jax.evaluation.embedding.embed import EmbedSettings
    from alp_jax.evaluation.embedding.embed_folder import describe, embed_folder
    from alp_jax.train.evaluate import eval_model

    settings = EmbedSettings(args.pooling, args.window_seconds, args.stride_seconds, args.batch_size)
    model, config = eval_model(args.model, args.step)
    result = embed_folder(
        model,
        args.audio,
        args.out,
        settings,
        # parameters alone do not identify an encoder: with other features they give other vectors
        depends_on=[to_dict(config.model), to_dict(config.features)],
        max_seconds=args.max_seconds,
        workers=args.workers,
    )
    if not args.json:
        print(describe(result))
    return result
