#!/bin/sh
# Install Debian's Chromium (as root), which the browser test opens the pages in.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -q install -y --no-install-recommends chromium fonts-liberation
