"""The electron microscope: what of a specimen reaches the camera, in how many electrons.

Underfocus is positive, frequencies are in 1/nm, lengths in nm. Formulas after Reimer &
Kohl, Transmission Electron Microscopy (5th edition, 2008), chapters 2 and 6.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tomoglean.provenance import Refused
from tomoglean.simulators.fields import Float

# Rest energy of the electron in keV, Planck's constant times c in keV nm (CODATA 2018).
REST_KEV, HC_KEV_NM = 510.99895, 1.239841984
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Microscope:
    """How a tilt series is recorded; units and limits in the schema `phantom-minicell`.

    Attributes
    ----------
    mode
        `full`: a tilt series, dose in and SNR out; `fast`: all at once, SNR in.
    tilt_max_deg, tilt_step_deg
        Tilts about y, from -max to max.
    voltage_kv, cs_mm, amplitude_contrast
        Of the electrons and the lens.
    defocus_um, defocus_spread_um
        Underfocus (0 switches the lens off), and its standard deviation between views.
    dose_per_a2
        Electrons per square angstrom of the whole series, before the ice.
    protein_v, mean_free_path_nm
        Inner potential of protein against ice, inelastic mean free path.
    camera
        `counting`: places electrons one by one, a little wrong, so that its noise is white;
        `integrating`: spreads every electron over pixels, so that it blurs the noise too.
    quantum_efficiency, camera_pixel_nm, mtf_nyquist
        Share of electrons that the camera records; its pixels in the specimen; its
        modulation transfer at their Nyquist frequency.
    shift_nm, rotation_deg
        Standard deviations of what the alignment of the views leaves over.
    rolloff_start, rolloff_width
        Where the ramp of the back-projection begins to fall, and how fast, in cycles per
        voxel.
    snr
        What the fast mode is asked for.
    """

    mode: str
    tilt_max_deg: float
    tilt_step_deg: float
    voltage_kv: float
    cs_mm: float
    amplitude_contrast: float
    defocus_um: float
    defocus_spread_um: float
    dose_per_a2: float
    protein_v: float
    mean_free_path_nm: float
    camera: str
    quantum_efficiency: float
    camera_pixel_nm: float
    mtf_nyquist: float
    shift_nm: float
    rotation_deg: float
    rolloff_start: float
    rolloff_width: float
    snr: float

    def __post_init__(self) -> None:
        """Refuse what holds each on its own, but not together."""
        if self.tilt_step_deg > self.tilt_max_deg:
            raise Refused(
                "simulate: expected microscope.tilt_step_deg of at most tilt_max_deg, "
                f"found {self.tilt_step_deg:g} and {self.tilt_max_deg:g}; lower the step"
            )

    @property
    def angles_deg(self) -> Array:
        """Tilts of the series in degrees: steps of the size asked for, both sides alike."""
        most = int(self.tilt_max_deg / self.tilt_step_deg + 1e-9)
        return self.tilt_step_deg * np.arange(-most, most + 1.0)

    @property
    def weights_rad(self) -> Array:
        """Share of the half turn that each view stands for, in radians."""
        return np.asarray(np.gradient(np.radians(self.angles_deg)))

    def electrons(self, voxel_nm: float) -> float:
        """Electrons a pixel and view before the ice."""
        return self.dose_per_a2 / len(self.angles_deg) * (10 * voxel_nm) ** 2

    def passed(self, ice_nm: float) -> Array:
        """Share of the electrons that cross the ice without loss, in each view."""
        path_nm = ice_nm / np.cos(np.radians(self.angles_deg))
        return np.asarray(np.exp(-path_nm / self.mean_free_path_nm))

    def phase_rad(self, voxel_nm: float) -> float:
        """Phase that a voxel full of protein adds to the wave."""
        return interaction(self.voltage_kv) * self.protein_v * voxel_nm

    def aberration(self, frequency: npt.NDArray[np.floating], defocus_um: float) -> Array:
        """Phase shift of the lens in radians at frequencies in 1/nm."""
        squares = np.square(frequency, dtype=np.float64)
        length_nm = wavelength_nm(self.voltage_kv)
        spherical = np.pi / 2 * self.cs_mm * 1e6 * length_nm**3 * squares**2
        return np.asarray(np.pi * length_nm * defocus_um * 1e3 * squares - spherical)

    def transfer(self, frequency: npt.NDArray[np.floating]) -> Float:
        """Contrast transfer of weak objects, positive where protein is dark.

        All ones at a defocus of 0: no lens at all.
        """
        if self.defocus_um == 0:
            return np.ones(np.shape(frequency), np.float32)
        phase = self.aberration(frequency, self.defocus_um)
        return np.asarray(np.sin(phase + np.arcsin(self.amplitude_contrast)), np.float32)

    def modulation(self, frequency: npt.NDArray[np.floating]) -> Float:
        """Modulation transfer of the camera at frequencies in 1/nm: a Gaussian."""
        share = np.square(2 * self.camera_pixel_nm * np.asarray(frequency, float))
        return np.asarray(self.mtf_nyquist**share, np.float32)


def wavelength_nm(voltage_kv: float) -> float:
    """Relativistic wavelength of electrons in nm."""
    return float(HC_KEV_NM / np.sqrt(voltage_kv * (voltage_kv + 2 * REST_KEV)))


def interaction(voltage_kv: float) -> float:
    """Phase in radians that a potential of 1 V adds on 1 nm: 6.53e-3 at 300 kV."""
    relativistic = (REST_KEV + voltage_kv) / (2 * REST_KEV + voltage_kv)
    per_kv = 2 * np.pi / (wavelength_nm(voltage_kv) * voltage_kv) * relativistic
    return float(per_kv * 1e-3)
