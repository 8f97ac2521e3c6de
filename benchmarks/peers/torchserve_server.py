"""TorchServe with dynamic batching and one worker for each core: archives the model, serves it."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
NAME = "classifier"


def settings(port: int) -> str:
    """config.properties for batches on a CPU, as TorchServe's documentation advises."""
    cores = len(os.sched_getaffinity(0))
    model = {
        "1.0": {
            "defaultVersion": True,
            "marName": f"{NAME}.mar",
            "minWorkers": cores,
            "maxWorkers": cores,
            "batchSize": 8,
            "maxBatchDelay": 5,
        }
    }
    return "\n".join(
        [
            f"inference_address=http://127.0.0.1:{port}",
            f"management_address=http://127.0.0.1:{port + 1}",
            f"metrics_address=http://127.0.0.1:{port + 2}",
            "disable_token_authorization=true",
            f"models={json.dumps({NAME: model})}",
            f"load_models={NAME}.mar",
            "install_py_dep_per_model=false",
        ]
    )


def main(port: int) -> None:
    """Archive the handler and serve it on a port until a signal arrives."""
    with tempfile.TemporaryDirectory() as folder:
        archiver = [str(BIN / "torch-model-archiver"), "--model-name", NAME, "--version", "1.0"]
        files = ["--handler", str(HERE / "torchserve_handler.py")]
        files += ["--extra-files", str(HERE / "model.py"), "--export-path", folder]
        subprocess.run([*archiver, *files], check=True)
        config = Path(folder) / "config.properties"
        config.write_text(settings(port) + "\n")
        serve = [str(BIN / "torchserve"), "--start", "--foreground", "--disable-token-auth"]
        options = ["--model-store", folder, "--ts-config", str(config)]
        environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "LOG_LOCATION": folder}
        environment["METRICS_LOCATION"] = folder
        subprocess.run([*serve, *options], check=True, env=environment, cwd=folder)


if __name__ == "__main__":
    main(int(sys.argv[1]))
