# shellcheck shell=bash
# RabbitMQ 3.10 (Debian 12's package) and 4.0 (Debian 13's, in a small Debian 13 tree below CACHE, entered by chroot).
# Each broker has its own node name, cookie, data, ports and epmd. The distribution port is given by the environment:
# at boot, before it reads rabbitmq.conf, the broker refuses to start while the default one (25672) is in use. Knobs:
#   TESTBED_RABBITMQ3_PORT, TESTBED_RABBITMQ4_PORT  the AMQP port (else a free one, kept)
#   TESTBED_RABBITMQ_CONF                           more lines of rabbitmq.conf, as 'consumer_timeout = 20000'
#   TESTBED_RABBITMQ_ADVANCED                       terms of advanced.config, as '{rabbit, [{channel_tick_interval, 2000}]}'
TRIXIE=$CACHE/rabbitmq4                    # the Debian 13 tree

rabbitmq_settings() { # 3|4
  BROKER=$1
  D=$STATE/rabbitmq$1                      # data, log, configuration, cookie and pids of that broker
  SEEN=$D                                  # the same folder as the broker sees it
  [ "$1" = 3 ] || SEEN=/srv/broker
}
rabbitmq_environment() { # prints what the broker and its tools are to see, and nothing else
  printf '%s\n' "HOME=$SEEN" PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "RABBITMQ_NODENAME=rabbitmq$BROKER@localhost" \
    "RABBITMQ_MNESIA_BASE=$SEEN/mnesia" "RABBITMQ_LOG_BASE=$SEEN/log" "RABBITMQ_LOGS=$SEEN/log/rabbitmq.log" \
    "RABBITMQ_CONFIG_FILE=$SEEN/rabbitmq.conf" "RABBITMQ_ADVANCED_CONFIG_FILE=$SEEN/advanced.config" \
    "RABBITMQ_GENERATED_CONFIG_DIR=$SEEN/generated" "RABBITMQ_SCHEMA_DIR=$SEEN/schema" \
    "RABBITMQ_ENABLED_PLUGINS_FILE=$SEEN/enabled_plugins" RABBITMQ_CONF_ENV_FILE=/dev/null "RABBITMQ_PID_FILE=$SEEN/rabbitmq.pid" \
    "ERL_CRASH_DUMP=$SEEN/log/erl_crash.dump" \
    "RABBITMQ_DIST_PORT=$(remembered_port "$D/ports" distribution)" \
    "ERL_EPMD_PORT=$(remembered_port "$D/ports" epmd)" ERL_EPMD_ADDRESS=127.0.0.1 \
    "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none" RABBITMQ_ALLOW_INPUT=1
}
rabbitmq_inside() { # prefix the rest of a command line with what puts it into the broker's world: sets INSIDE
  local environment
  mapfile -t environment < <(rabbitmq_environment)
  INSIDE=(env -i "${environment[@]}")
  [ "$BROKER" = 3 ] && return
  mkdir -p "$TRIXIE$SEEN"
  # The mounts are in a namespace that goes with the process: nothing stays mounted.
  # shellcheck disable=SC2016  # expanded by that sh
  INSIDE=(unshare -m --propagation private sh -c 'mount --bind "$1" "$0$2" && mount -t proc proc "$0/proc" && shift 2 && exec chroot "$0" "$@"'
    "$TRIXIE" "$D" "$SEEN" "${INSIDE[@]}")
}
rabbitmq_answers() { # is it AMQP that speaks on that port?
  (exec 3<>"/dev/tcp/127.0.0.1/$1" && printf 'AMQP\0\0\11\1' >&3 && read -r -t 5 -N 1 _ <&3) 2>/dev/null
}

install_rabbitmq3() { debian rabbitmq-server; }

install_rabbitmq4() {
  local file
  [ -e "$TRIXIE/.complete" ] && return
  debian debootstrap
  rm -rf --one-file-system "$TRIXIE"
  mkdir -p "$CACHE"
  say "rabbitmq4: making a Debian 13 tree"
  debootstrap --variant=minbase trixie "$TRIXIE" "$(debian_mirror)" >"$CACHE/debootstrap.log" 2>&1 9>&- || die "debootstrap failed: $(tail -5 "$CACHE/debootstrap.log")"
  printf '#!/bin/sh\nexit 101\n' >"$TRIXIE/usr/sbin/policy-rc.d"
  chmod +x "$TRIXIE/usr/sbin/policy-rc.d"
  cp -L /etc/resolv.conf /etc/hosts "$TRIXIE/etc/"
  for file in /etc/apt/apt.conf.d/*; do ! grep -qis proxy "$file" || cp "$file" "$TRIXIE/etc/apt/apt.conf.d/"; done
  LC_ALL=C DEBIAN_FRONTEND=noninteractive chroot "$TRIXIE" apt-get install -y -qq --no-install-recommends rabbitmq-server \
    >"$CACHE/rabbitmq4.log" 2>&1 9>&- || die "no RabbitMQ 4: $(tail -5 "$CACHE/rabbitmq4.log")"
  chroot "$TRIXIE" apt-get clean
  rm -rf "$TRIXIE"/var/lib/apt/lists/*
  touch "$TRIXIE/.complete"
  say "rabbitmq4: $(chroot "$TRIXIE" dpkg-query -W -f='${Version}' rabbitmq-server) installed"
}

up_rabbitmq() { # 3|4
  local port epmd end wanted=TESTBED_RABBITMQ$1_PORT
  rabbitmq_settings "$1"
  mkdir -p "$D/log"
  chmod 700 "$D"
  port=$(remembered_port "$D/ports" amqp "${!wanted:-}")
  epmd=$(remembered_port "$D/ports" epmd)
  if alive "$D/broker.pid" >/dev/null && rabbitmq_answers "$port"; then return; fi
  stop 1 "$D/broker.pid"                   # one that hangs is not up
  cat >"$D/rabbitmq.conf" <<CONF
listeners.tcp.default = 127.0.0.1:$port
distribution.listener.interface = 127.0.0.1
log.file.level = info
disk_free_limit.absolute = 50MB
raft.wal_max_size_bytes = 67108864
${TESTBED_RABBITMQ_CONF:-}
CONF
  echo "[${TESTBED_RABBITMQ_ADVANCED:-}]." >"$D/advanced.config"
  echo '[].' >"$D/enabled_plugins"
  rabbitmq_inside
  alive "$D/epmd.pid" >/dev/null || spawn "$D/epmd.pid" "$D/log/epmd.out" "${INSIDE[@]}" epmd -address 127.0.0.1 -port "$epmd"
  until connects "$epmd"; do alive "$D/epmd.pid" >/dev/null || die "rabbitmq$1's epmd ended"; sleep 0.02; done
  spawn "$D/broker.pid" "$D/log/broker.out" "${INSIDE[@]}" /usr/lib/rabbitmq/bin/rabbitmq-server -noinput
  end=$((SECONDS + 120))
  until rabbitmq_answers "$port"; do
    alive "$D/broker.pid" >/dev/null || die "rabbitmq$1 ended"
    [ $SECONDS -lt $end ] || die "rabbitmq$1 does not answer on port $port$(last_lines "$D/log/broker.out" "$D/log/rabbitmq.log")"
    sleep 0.1
  done
  cat >"$D/env" <<ENV
RABBITMQ$1_URL=amqp://guest:guest@127.0.0.1:$port/%2f
RABBITMQ$1_PORT=$port
RABBITMQ$1_PID=$(alive "$D/broker.pid")
ENV
  say "rabbitmq$1: amqp://guest:guest@127.0.0.1:$port/%2f"
}
up_rabbitmq3() { up_rabbitmq 3; }
up_rabbitmq4() { up_rabbitmq 4; }

down_rabbitmq() { # 3|4 : its data stay; an orderly stop
  rabbitmq_settings "$1"
  stop 20 "$D/broker.pid"
  stop 0 "$D/epmd.pid"
  rm -f "$D/env"
}
down_rabbitmq3() { down_rabbitmq 3; }
down_rabbitmq4() { down_rabbitmq 4; }
alive_rabbitmq3() { alive "$STATE/rabbitmq3/broker.pid"; }
alive_rabbitmq4() { alive "$STATE/rabbitmq4/broker.pid"; }

rabbitmq_tool() { # 3|4 tool argument... : rabbitmqctl, rabbitmq-diagnostics and the like, on that broker (1-2 s a call)
  rabbitmq_settings "$1"
  rabbitmq_inside
  exec "${INSIDE[@]}" "/usr/lib/rabbitmq/bin/$2" "${@:3}"
}
