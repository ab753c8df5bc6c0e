"""Sites under the name they had; see `bodies`."""

from tomoglean.simulators.minicell.bodies import Site as Site
