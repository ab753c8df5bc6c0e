#!/bin/sh
# Install the Debian packages of a SLURM for one machine (as root); nothing is started.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -q install -y --no-install-recommends slurmctld slurmd slurm-client munge
