# Setting up a checkout: the shell functions that demo, test, bench and lock share. Sourced, never run.
#
# What it decides: which Python, how the virtual environment .venv is made, and whether it is still current.
# Everything made goes to .venv and .state, which git ignores; a stamp beside each says what it was made from,
# so that the second run does nothing. Packages are named, never their registries: pip, npm and apt ask
# whatever they are configured to ask.
# shellcheck shell=bash

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
VENV="$ROOT/.venv"
STATE="$ROOT/.state"
LOCK="$ROOT/requirements/ci.txt"
export PIP_DISABLE_PIP_VERSION_CHECK=1
PYTHON=""
APT_UPDATED=""

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "$(basename "$0"): $*"
  exit 1
}

need_linux() {
  [ "$(uname -s)" = Linux ] ||
    fail "runners need Linux 5.10 or newer, and this is $(uname -s); run it in a Linux container or machine"
}

# Sets PYTHON to an interpreter of 3.11 or newer.
find_python() {
  local candidate
  for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      PYTHON="$candidate"
      return
    fi
  done
  fail "Python 3.11 or newer is needed, and the newest found here is" \
    "$(python3 --version 2>/dev/null || echo none); install the package python3.11 (or newer) and try again"
}

# hash_of FILE...: one number for their contents, this place and this Python.
hash_of() {
  { printf '%s\n' "$ROOT"; "$PYTHON" --version; cat "$@"; } | sha256sum | cut -d' ' -f1
}

current() { # current STAMP HASH: was this made from the same?
  [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]
}

stamp() { # stamp STAMP HASH
  mkdir -p "$(dirname "$1")"
  printf '%s\n' "$2" >"$1"
}

# make_venv DIR: by venv, else virtualenv, else uv, else one sentence. A broken one is made anew.
make_venv() {
  local dir="$1" log="$STATE/venv.log"
  if "$dir/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
    grep -qsF "$dir" "$dir/bin/activate"; then
    return
  fi
  mkdir -p "$STATE"
  rm -rf "$dir"
  if "$PYTHON" -m venv "$dir" >"$log" 2>&1; then return; fi
  rm -rf "$dir"
  if "$PYTHON" -m virtualenv -q "$dir" >>"$log" 2>&1; then return; fi
  if virtualenv -q -p "$PYTHON" "$dir" >>"$log" 2>&1; then return; fi
  rm -rf "$dir"
  if uv venv -q --python "$PYTHON" "$dir" >>"$log" 2>&1; then return; fi
  rm -rf "$dir"
  fail "no virtual environment can be made here: install the package python3-venv" \
    "(Debian, Ubuntu: apt-get install python3-venv; elsewhere: virtualenv or uv) and try again"
}

# install DIR ARGUMENT...: pip install into that environment; uv's environments have no pip of their own.
install() {
  local dir="$1"
  shift
  mkdir -p "$STATE"
  if "$dir/bin/python" -c 'import pip' 2>/dev/null; then
    "$dir/bin/python" -m pip install --quiet "$@" >"$STATE/install.log" 2>&1 || _install_failed
  else
    uv pip install --quiet --python "$dir/bin/python" "$@" >"$STATE/install.log" 2>&1 || _install_failed
  fi
}

_install_failed() {
  tail -n 20 "$STATE/install.log" >&2
  fail "a Python package could not be installed; what was said is above, and in .state/install.log"
}

# apt_install PACKAGE...: where this is Debian and we are root; otherwise false.
apt_install() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  mkdir -p "$STATE"
  export DEBIAN_FRONTEND=noninteractive
  if [ -z "$APT_UPDATED" ]; then
    say "apt-get update"
    apt-get update -qq >"$STATE/apt.log" 2>&1 || say "  it failed (see .state/apt.log); going on with what is known"
    APT_UPDATED=yes
  fi
  say "apt-get install $*"
  apt-get install -y -qq --no-install-recommends "$@" >>"$STATE/apt.log" 2>&1
}

# The environment of the tests and the benchmark: exactly the locked versions, and the checkout itself.
make_developer_venv() {
  local want
  want="$(hash_of "$LOCK" "$ROOT/pyproject.toml")"
  if [ -x "$VENV/bin/pytest" ] && current "$VENV/.developer-stamp" "$want"; then return; fi
  say "setting up .venv with the versions of requirements/ci.txt (once)"
  make_venv "$VENV"
  install "$VENV" -r "$LOCK"
  install "$VENV" --no-deps --no-build-isolation -e "$ROOT"
  stamp "$VENV/.developer-stamp" "$want"
}

# The other clients that the interop tests and the benchmark run. Answers false where they cannot be had.
make_node_peers() { _node_packages tests/interop node-peers "the Node clients"; }

# What looks at our queues in tests/dashboards; Chromium comes from apt.
make_dashboards() { _node_packages tests/dashboards dashboards "the dashboards"; }

_node_packages() { # _node_packages DIR STAMP WHAT: those of DIR/package-lock.json
  local home="$ROOT/$1" want
  want="$(hash_of "$home/package-lock.json")"
  if [ -d "$home/node_modules" ] && current "$STATE/$2.stamp" "$want"; then return; fi
  mkdir -p "$STATE"
  say "installing $3 of $1/package-lock.json (once)"
  # Not `npm ci`: it refuses a lock that does not list the optional binaries of other platforms.
  if (cd "$home" && npm install --no-save --ignore-scripts --loglevel=error) >"$STATE/npm.log" 2>&1; then
    stamp "$STATE/$2.stamp" "$want"
  else
    tail -n 5 "$STATE/npm.log" >&2
    return 1
  fi
}

make_python_peers() {
  local file="$ROOT/tests/interop/requirements.txt" dir="$STATE/python-peers" want
  want="$(hash_of "$file")"
  if [ -x "$dir/bin/python" ] && current "$STATE/python-peers.stamp" "$want"; then return; fi
  say "installing the Python client of tests/interop/requirements.txt into .state/python-peers (once)"
  make_venv "$dir"
  install "$dir" -r "$file"
  stamp "$STATE/python-peers.stamp" "$want"
}

# The job queues that the benchmark stands beside, each in an environment of its own. Answers false where one
# cannot be had. make_bench_peer NAME PACKAGE...
make_bench_peer() {
  local name="$1" dir="$STATE/bench-peers/$1" want
  shift
  want="$({ hash_of /dev/null; echo "$*"; } | sha256sum | cut -d' ' -f1)"
  if [ -x "$dir/bin/python" ] && current "$dir/stamp" "$want"; then return; fi
  say "installing $* into .state/bench-peers/$name (once)"
  rm -f "$dir/stamp"
  make_venv "$dir"
  install "$dir" "$@"
  stamp "$dir/stamp" "$want"
}

have_guest_tools() {
  [ "$(uname -m)" != x86_64 ] ||
    (PATH="$PATH:/usr/sbin:/sbin" && command -v qemu-system-x86_64 && command -v mmdebstrap && command -v mke2fs) >/dev/null
}

# The machine of tests/guest: its image goes to the user's cache. Answers false where it cannot be built.
make_guest() {
  local log="$STATE/guest-image.log"
  mkdir -p "$STATE"
  "$VENV/bin/python" "$ROOT/tests/guest/image.py" --look >"$log" 2>&1 && return
  [ "$(uname -m)" = x86_64 ] && [ "$(id -u)" = 0 ] || return 1
  say "building the images of the guests for tests/guest (once, about two minutes)"
  "$VENV/bin/python" "$ROOT/tests/guest/image.py" >"$log" 2>&1 || { tail -n 5 "$log" >&2; return 1; }
}
