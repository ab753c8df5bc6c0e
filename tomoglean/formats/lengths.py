"""Units of length, as foreign files spell them."""

import math

NANOMETRES = {
    "pm picometer picometre": 1e-3,
    "angstrom angstroms ångström å \u212b": 0.1,
    "nm nanometer nanometers nanometre nanometres": 1.0,
    "um µm \u03bcm \\u00b5m micron microns": 1e3,
    "micrometer micrometers micrometre micrometres": 1e3,
    "mm millimeter millimeters millimetre millimetres": 1e6,
    "cm centimeter centimeters centimetre centimetres": 1e7,
    "m meter meters metre metres": 1e9,
}
UNITS_NM = {name: size for names, size in NANOMETRES.items() for name in names.split()}


def in_nm(unit: object) -> float:
    """Return the length of a unit in nm; NaN if it is unknown or none."""
    if unit == "A":
        return 0.1
    return UNITS_NM.get(str(unit).strip().lower(), math.nan)


def positive(value: object) -> float:
    """Return a finite number above zero; NaN if the value is none."""
    try:
        number = float(str(value))
    except ValueError:
        return math.nan
    return number if 0 < number < math.inf else math.nan
