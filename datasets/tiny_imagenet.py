"""Tiny-ImageNet: 64-pixel photographs of 200 classes; test is the official val."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from zipfile import ZipFile

import numpy as np

from dcbench_bacon.api import (
    DataError,
    DatasetInfo,
    MissingDataError,
    RawSplit,
    damaged,
    decode_images,
    left_behind,
)

_NAMES = """
goldfish; fire salamander; American bullfrog; tailed frog; American alligator; boa
constrictor; trilobite; scorpion; southern black widow; tarantula; centipede; goose;
koala; jellyfish; brain coral; snail; slug; sea slug; American lobster; spiny lobster;
black stork; king penguin; albatross; dugong; Chihuahua; Yorkshire Terrier; Golden
Retriever; Labrador Retriever; German Shepherd Dog; Standard Poodle; tabby cat;
Persian cat; Egyptian Mau; cougar; lion; brown bear; ladybug; fly; bee; grasshopper;
stick insect; cockroach; praying mantis; dragonfly; monarch butterfly; sulphur
butterfly; sea cucumber; guinea pig; pig; ox; bison; bighorn sheep; gazelle; arabian
camel; orangutan; chimpanzee; baboon; African bush elephant; red panda; abacus;
academic gown; altar; apron; backpack; baluster / handrail; barbershop; barn; barrel;
basketball; bathtub; station wagon; lighthouse; beaker; beer bottle; bikini;
binoculars; birdhouse; bow tie; brass memorial plaque; broom; bucket; high-speed
train; butcher shop; candle; cannon; cardigan; automated teller machine; CD player;
chain; storage chest; Christmas stocking; cliff dwelling; computer keyboard; candy
store; convertible; construction crane; dam; desk; dining table; drumstick; dumbbell;
flagpole; fountain; freight car; frying pan; fur coat; gas mask or respirator; go-
kart; gondola; hourglass; iPod; rickshaw; kimono; lampshade; lawn mower; lifeboat;
limousine; magnetic compass; maypole; military uniform; miniskirt; moving van; metal
nail; neck brace; obelisk; oboe; pipe organ; parking meter; payphone; picket fence;
pill bottle; plunger; pole; police van; poncho; soda bottle; potter's wheel; missile;
punching bag; fishing casting reel; refrigerator; remote control; rocking chair; rugby
ball; sandal; school bus; scoreboard; sewing machine; snorkel; sock; sombrero; space
heater; spider web; sports car; through arch bridge; stopwatch; sunglasses; suspension
bridge; swim trunks / shorts; syringe; teapot; teddy bear; thatched roof; torch;
tractor; triumphal arch; trolleybus; turnstile; umbrella; vestment; viaduct;
volleyball; water jug; water tower; wok; wooden spoon; comic book; plate; guacamole;
ice cream; popsicle; pretzel; mashed potatoes; cauliflower; bell pepper; mushroom;
orange; lemon; banana; pomegranate; meatloaf; pizza; pot pie; espresso; mountain;
cliff; coral reef; lakeshore; beach; acorn
"""  # of the sorted WordNet ids, as open_clip words ImageNet's classes
INFO = DatasetInfo(
    name="tiny_imagenet",
    title="Tiny-ImageNet",
    classes=200,
    channels=3,
    size=64,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    class_names=tuple(" ".join(name.split()) for name in _NAMES.split(";")),
)
COUNTS = (100_000, 10_000)
TREE = "tiny-imagenet-200"
FILES = {f"{TREE}.zip": "90528d7ca1a48142e341f4ef8d21d0de"}
_ANNOTATIONS = "val/val_annotations.txt"
_LARGEST = 1_000_000  # bytes of one image; the official ones have about 2,000


def fetch(root: Path) -> None:
    """Download the zip, which is read without unpacking it."""
    from torchvision.datasets.utils import download_url

    for name, md5 in FILES.items():
        download_url(f"http://cs231n.stanford.edu/{name}", root, name, md5)


def sources(root: Path) -> list[str]:
    """Return the files of the tree or, without one, the zip."""
    tree, archive = root / TREE, root / f"{TREE}.zip"
    if tree.is_dir():
        return [f"{tree}/{name}" for name in sorted(_tree_names(tree))]
    if archive.is_file():
        return [str(archive)]
    raise MissingDataError(
        f"tiny_imagenet: neither {TREE}/ nor {TREE}.zip found; run `dcbench data get "
        f"tiny_imagenet`, or put one under {root} (--data-root or DCBENCH_DATA)"
    )


def read(root: Path) -> tuple[RawSplit, RawSplit]:
    """Decode train and the official val, from the tree or straight from the zip."""
    if (root / TREE).is_dir():
        return _read(_Archive(root / TREE))
    path = root / f"{TREE}.zip"
    with damaged(path), ZipFile(path) as archive:
        return _read(_Archive(path, archive))


class _Archive(NamedTuple):
    """The official tree, in a folder or in a zip."""

    path: Path
    zip: ZipFile | None = None

    def names(self) -> list[str]:
        """Return the paths of the files inside the tree, in order."""
        if self.zip is None:
            return sorted(_tree_names(self.path))
        inside = [name for name in self.zip.namelist() if not name.endswith("/")]
        # An archive packed again on a Mac has copies in __MACOSX, and .DS_Store.
        names = [
            name
            for name in inside
            if not name.startswith("__MACOSX/")
            and not left_behind(PurePosixPath(name).name)
        ]
        for name in names:
            parts = PurePosixPath(name).parts
            if ".." in parts or parts[0] != TREE:
                raise DataError(f"{self.path}: member {name!r} is outside {TREE}/")
        return sorted(name.removeprefix(f"{TREE}/") for name in names)

    def read_bytes(self, name: str) -> bytes:
        """Return the content of one file of the tree."""
        if self.zip is None:
            return (self.path / name).read_bytes()
        member = self.zip.getinfo(f"{TREE}/{name}")
        if member.file_size > _LARGEST:
            raise DataError(f"{self.path}: {name} unpacks to {member.file_size} bytes")
        return self.zip.read(member)


def _tree_names(tree: Path) -> Iterator[str]:
    """Return the files that count: train images, val images and val's labels."""
    yield _ANNOTATIONS
    for folder in (*tree.glob("train/*/images"), *tree.glob("val/images")):
        inside = folder.relative_to(tree).as_posix()
        names = (entry.name for entry in os.scandir(folder))
        yield from (f"{inside}/{name}" for name in names if not left_behind(name))


def _read(archive: _Archive) -> tuple[RawSplit, RawSplit]:
    paths = [PurePosixPath(name) for name in archive.names()]
    train = [p for p in paths if p.match("train/*/images/*.JPEG")]
    classes = sorted({path.parts[1] for path in train})
    if len(classes) != INFO.classes:
        raise DataError(
            f"{archive.path}: train has {len(classes)} class folders with images, "
            f"expected {INFO.classes}"
        )
    label = {wnid: index for index, wnid in enumerate(classes)}
    with damaged(archive.path / _ANNOTATIONS):
        lines = archive.read_bytes(_ANNOTATIONS).decode().splitlines()
        rows = [line.split("\t") for line in lines]
        test_labels = [label[row[1]] for row in rows]
    return (
        _decode(archive, [str(p) for p in train], [label[p.parts[1]] for p in train]),
        _decode(archive, [f"val/images/{row[0]}" for row in rows], test_labels),
    )


def _decode(archive: _Archive, names: list[str], labels: list[int]) -> RawSplit:
    images, _ = decode_images(names, archive.read_bytes, str(archive.path), INFO.size)
    return RawSplit(images, np.array(labels, np.int64))
