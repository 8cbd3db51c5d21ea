# shellcheck shell=bash
# Sourced by testbed: where things lie, and the few tools that every part uses.
# Everything that is installed lies below CACHE, everything that runs below STATE; a second STATE is a second, independent testbed.
CACHE=$(readlink -m "${PUSHBUTTON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pushbutton}")
STATE=$(readlink -m "${PUSHBUTTON_TESTBED:-$CACHE/testbed}")
PYTHON=/usr/bin/python3                    # not the first on PATH: that may be a version manager's shim without venv
[ -x "$PYTHON" ] || PYTHON=$(command -v python3 || true)
# What the caller's shell may hold and no server of ours is to see.
unset PYTHONPATH PYTHONDONTWRITEBYTECODE OS_CLOUD OS_AUTH_URL
export no_proxy=127.0.0.1,localhost NO_PROXY=127.0.0.1,localhost

T0=${EPOCHREALTIME/[.,]/}
say() { # message... : what happens, with the seconds since the start, on stderr (stdout is for results)
  local t=$((${EPOCHREALTIME/[.,]/} - T0))
  printf '[%4d.%d s] %s\n' $((t / 1000000)) $((t / 100000 % 10)) "$*" >&2
}
die() { printf 'testbed: %s\n' "$*" >&2; exit 1; }
last_lines() { # log... : what stands at the end of each, below its name
  local log
  for log in "$@"; do [ ! -s "$log" ] || printf '\n%s ends with:\n%s' "$log" "$(tail -20 "$log" | sed 's/^/    /')"; done
}

# ---- one at a time
lock() { # file : wait until nobody else holds it; it is ours until this (sub)shell ends. Servers must not inherit it: see spawn
  mkdir -p "$(dirname "$1")"
  exec 9>"$1"
  flock 9
}

# ---- processes: a pid file holds "pid start-time", so that a later process with the same pid is never taken for ours
started() { # pid : its start time in clock ticks since boot; fails when it is gone or a zombie
  local stat
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  stat=${stat##*) }
  # shellcheck disable=SC2086  # split on purpose: the fields after the command's name
  set -- $stat
  [ "$1" != Z ] && printf '%s' "${20}"
}
keep_pid() { printf '%s %s\n' "$2" "$(started "$2" || echo gone)" >"$1"; }     # file pid
stands_still() { # pid : every thread of it is stopped
  ! awk 'FNR == 1 { sub(/.*\) /, ""); if ($1 !~ /^[tTZX]/) moving = 1 } END { exit !moving }' "/proc/$1/task"/*/stat 2>/dev/null
}
alive() { # pid file : prints the pid while the very process that we started is there
  local pid when
  { read -r pid when <"$1"; } 2>/dev/null || return 1
  [ "$(started "$pid")" = "$when" ] && printf '%s' "$pid"
}
spawn() { # pid-file log command... : in a session of its own, so that it outlives the caller's terminal and test runner
  local pid_file=$1 log=$2
  shift 2
  setsid "$@" </dev/null >>"$log" 2>&1 9>&- &
  keep_pid "$pid_file" $!
}
gone() { # seconds pid-file... : wait until none of them is alive; fails when time is up
  local end=$((SECONDS + $1)) file
  shift
  for file in "$@"; do
    while alive "$file" >/dev/null; do
      [ $SECONDS -lt $end ] || return 1
      sleep 0.05
    done
  done
}
stop() { # seconds pid-file... : TERM to each with its whole group, wait, KILL what is left
  local seconds=$1 file pid
  shift
  for file in "$@"; do
    pid=$(alive "$file") || continue
    kill -CONT -- "-$pid" 2>/dev/null || true      # a frozen process does not see a TERM
    kill -TERM -- "-$pid" 2>/dev/null || true
  done
  gone "$seconds" "$@" || true
  for file in "$@"; do
    pid=$(alive "$file") && kill -KILL -- "-$pid" 2>/dev/null
    gone 10 "$file" || true
    rm -f "$file"
  done
}

ended() { # part : reports each of its servers that ended by itself (only `stop` removes a pid file), now and in STATE/ended.log for `status`
  local file name when
  local -a logs
  for file in "$STATE/$1"/{,pid/}*.pid; do
    { read -r _ when <"$file"; } 2>/dev/null && [ -n "$when" ] || continue         # not written by keep_pid
    if alive "$file" >/dev/null; then continue; fi
    name=$(basename "$file" .pid)
    logs=("$STATE/$1"/{,log/}"$name".{out,log})
    case $name in broker | rabbit) logs+=("$STATE/$1/log/rabbitmq.log") ;; esac
    say "$1: $name ended$(last_lines "${logs[@]}")" 2>&1 | tee -a "$STATE/ended.log" >&2
  done
}

# ---- ports: loopback only; below the ephemeral range, so that a passing connection of anybody never takes the port of a server that restarts
port_free() { ! grep -qs ":$(printf %04X "$1") " /proc/net/tcp /proc/net/tcp6; }
free_port() {
  local port
  while :; do
    port=$((18000 + (RANDOM * 32768 + RANDOM) % 14000))
    if port_free "$port"; then printf '%s' "$port"; return; fi
  done
}
remembered_port() { # file name [wanted] : the port of that name, chosen once and kept in the file; `wanted` fixes it
  local file=$1 name=$2 port=${3:-}
  [ -n "$port" ] || port=$(sed -n "s/^$name=//p" "$file" 2>/dev/null | tail -1)
  [ -n "$port" ] || port=$(free_port)
  grep -qsx "$name=$port" "$file" || echo "$name=$port" >>"$file"
  printf '%s' "$port"
}
connects() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# ---- installing
installed_packages() { # package... : are all there? (dpkg -s is content with one that was removed but not purged)
  [ "$(dpkg-query -W -f='${db:Status-Status}\n' "$@" 2>/dev/null | grep -cx installed)" = $# ]
}
debian() { # package... : install what is missing of Debian's packages; none of their services starts, now or at the next boot
  local missing=() package made=no
  installed_packages "$@" && return 0
  for package in "$@"; do installed_packages "$package" || missing+=("$package"); done
  [ "$(id -u)" = 0 ] || die "these Debian packages are missing and only root can install them: ${missing[*]}"
  (
    lock "$CACHE/locks/apt"
    trap '[ $made = no ] || rm -f /usr/sbin/policy-rc.d' EXIT
    if [ ! -e /usr/sbin/policy-rc.d ]; then
      made=yes
      printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
      chmod +x /usr/sbin/policy-rc.d
    fi
    export DEBIAN_FRONTEND=noninteractive LC_ALL=C
    apt=(apt-get -o DPkg::Lock::Timeout=600 -qq)
    "${apt[@]}" update >&2
    "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >"$CACHE/apt.log" 2>&1 || { tail -20 "$CACHE/apt.log" >&2; exit 1; }
    for package in "${missing[@]}"; do
      case $package in
        rabbitmq-server) systemctl -q disable rabbitmq-server epmd >/dev/null 2>&1 || true ;;
        openssh-server) systemctl -q disable ssh >/dev/null 2>&1 || true ;;
        docker.io) systemctl -q disable docker docker.socket containerd >/dev/null 2>&1 || true ;;
      esac
    done
  ) || die "cannot install ${missing[*]}: see $CACHE/apt.log"
  say "installed ${missing[*]}"
}
debian_mirror() { # prints the URL that debootstrap takes, of any release: the host's first source
  printf '%s' "${TESTBED_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' 'Component: main' | head -1)}"
}
virtualenv() { # folder pip-argument... : a Python environment of its own, by uv (pip takes minutes where uv takes seconds)
  local venv=$1
  shift
  [ -x "$venv/bin/python" ] || "$PYTHON" -m venv "$venv"
  [ -x "$venv/bin/uv" ] || "$venv/bin/pip" install -q uv
  "$venv/bin/uv" pip install -q --python "$venv/bin/python" "$@"
}
# A stamp says that a folder of CACHE was finished, by these very scripts: when they change, it is made again.
fingerprint() { cat "$@" | sha256sum | cut -c1-12; }
old_templates() { # folder... : remove those of more than two days ago; a newer one may be that of another checkout which shares CACHE
  local folder
  for folder in "$@"; do [ ! -e "$folder" ] || find "$folder" -maxdepth 0 -mtime +2 -exec rm -rf --one-file-system {} +; done
}
