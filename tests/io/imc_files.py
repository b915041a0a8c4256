"""Small .mcd and .txt files of imaging mass cytometry, for tests of their readers."""

from dataclasses import dataclass

import numpy as np

METALS = ("Er170", "Dy161", "Ir191")
HEADER = "Start_push\tEnd_push\tPushes_duration\tX\tY\tZ\t"


def imc_text(image, labels=("CD3", "CD20", "DNA1"), *, end="\n"):
    """The text of an acquisition, image (C, Y, X), three decimals."""
    head = HEADER + "\t".join(
        f"{label}({metal}Di)" for label, metal in zip(labels, METALS, strict=False)
    )
    _, height, width = image.shape
    lines = [
        "\t".join(["0", "9", "10", str(x), str(y), "0", *(f"{v:.3f}" for v in image[:, y, x])])
        for y in range(height)
        for x in range(width)
    ]
    return end.join([head, *lines, ""])


@dataclass
class Acquisition:
    """What the XML says of an acquisition, and its records; ``start`` and ``end`` None: where the
    records are written."""

    id: int
    records: np.ndarray | None = None
    width: object = 0
    height: object = 0
    start: object = None
    end: object = None
    title: str = ""
    more: str = ""


def records(image):
    """(pixels, 3 + C) float32 in raster order of an image (C, Y, X)."""
    channels, height, width = image.shape
    y, x = np.mgrid[:height, :width]
    left = [x.ravel(), y.ravel(), np.zeros(height * width)]
    return np.concatenate([left, image.reshape(channels, -1)]).T.astype("<f4")


def measured(number, image, **changes):
    """An acquisition that was measured as a whole."""
    given = {
        "records": records(image),
        "width": image.shape[2],
        "height": image.shape[1],
        "title": f"ROI {number}",
    }
    return Acquisition(number, **given | changes)


def mcd(acquisitions, labels=("CD3", "CD20", "DNA1"), *, edit=lambda xml: xml):
    """The bytes of an .mcd; ``edit`` changes its XML."""
    data, parts = bytearray(b"\0" * 32), []
    for one in acquisitions:
        start = len(data) if one.records is not None else 0
        data += one.records.tobytes() if one.records is not None else b""
        end = len(data) if one.records is not None else 0
        fields = {
            "ID": one.id, "Description": one.title, "MaxX": one.width, "MaxY": one.height,
            "DataStartOffset": start if one.start is None else one.start,
            "DataEndOffset": end if one.end is None else one.end, "ValueBytes": 4,
            "SegmentDataFormat": "Float", "AcquisitionROIID": one.id,
        }  # fmt: skip
        parts.append(
            f"<AcquisitionROI><ID>{one.id}</ID><PanoramaID>1</PanoramaID></AcquisitionROI>"
        )
        parts.append(
            "<Acquisition>"
            + "".join(f"<{k}>{v}</{k}>" for k, v in fields.items())
            + one.more
            + "</Acquisition>"
        )
        names = [
            ("X", "X"),
            ("Y", "Y"),
            ("Z", "Z"),
            *((f"{m[:2]}({m[2:]})", label) for m, label in zip(METALS, labels, strict=False)),
        ]
        parts += [
            f"<AcquisitionChannel><ID>{i}</ID><ChannelName>{metal}</ChannelName><OrderNumber>{i}</OrderNumber>"
            f"<AcquisitionID>{one.id}</AcquisitionID><ChannelLabel>{label}</ChannelLabel></AcquisitionChannel>"
            for i, (metal, label) in enumerate(names)
        ]
    xml = (
        '<MCDSchema xmlns="http://www.fluidigm.com/IMC/MCDSchema_V2_0.xsd"><Slide><ID>1</ID></Slide>'
        "<Panorama><ID>1</ID><SlideID>1</SlideID><Type>Default</Type></Panorama>"
        + "".join(parts)
        + "</MCDSchema>"
    )
    return bytes(data) + edit(xml).encode("utf-16-le")
