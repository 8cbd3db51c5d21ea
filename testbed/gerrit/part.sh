# shellcheck shell=bash
# A real Gerrit 3.10 from its published jars, headless: SSH, NoteDb, index, REST and git are its own. Knobs:
#   TESTBED_GERRIT_HTTP_PORT, TESTBED_GERRIT_SSH_PORT   else free ones, kept
#   TESTBED_GERRIT_JAVA                                 a Java to use (17 or later; else JAVA_HOME, PATH, what Debian has)
GERRIT_VERSION=3.10.2                      # the last line that runs on Java 17, which is what Debian 12 ships
BOUNCYCASTLE_VERSION=1.79
GERRIT_JARS=$CACHE/gerrit-$GERRIT_VERSION
# The seeded site, of which every start takes a copy; named after what makes it, so that a changed seed is never mixed with an old site.
GERRIT_TEMPLATE=$CACHE/gerrit-site-$(fingerprint "$HERE/gerrit/part.sh" "$HERE/gerrit/seed.py")

gerrit_java() { # prints a java of 17 or later
  local java major
  for java in "${TESTBED_GERRIT_JAVA:-}" ${JAVA_HOME:+"$JAVA_HOME/bin/java"} "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
    [ -x "$java" ] || continue
    major=$("$java" -version 2>&1 | sed -n '1s/[^"]*"\([0-9]*\).*/\1/p')
    if [ "${major:-0}" -ge 17 ]; then printf '%s' "$java"; return; fi
  done
  die "Gerrit $GERRIT_VERSION needs Java 17 or later"
}
gerrit_command() { # sets GERRIT: what runs one of Gerrit's programs
  GERRIT=("$(gerrit_java)" -Xmx1g -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$GERRIT_JARS/classes:$GERRIT_JARS/*"
    '-Dflogger.backend_factory=com.google.common.flogger.backend.log4j.Log4jBackendFactory#getInstance'
    '-Dflogger.logging_context=com.google.gerrit.server.logging.LoggingContext#getInstance' GerritMain)
}

gerrit_jar() { # group:artifact:version
  local group artifact version
  IFS=: read -r group artifact version <<<"$1"
  [ -s "$GERRIT_JARS/$artifact-$version.jar" ] || mvn -q -B -Dstyle.color=never org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
    "-Dartifact=$group:$artifact:$version:jar" "-DoutputDirectory=$GERRIT_JARS" >&2 9>&-
}
install_gerrit() {
  local part
  debian git openssh-client curl
  if [ ! -e "$GERRIT_JARS/.complete" ]; then
    { command -v javac && command -v mvn; } >/dev/null || debian openjdk-17-jdk-headless maven
    mkdir -p "$GERRIT_JARS/classes/com/google/gerrit/common"
    # The war is not on Maven Central. What plugin authors get is: the plugin API (server, sshd, httpd, index) and the acceptance
    # framework (init, daemon, jetty) are together the whole server, but for BouncyCastle.
    gerrit_jar "com.google.gerrit:gerrit-plugin-api:$GERRIT_VERSION"
    gerrit_jar "com.google.gerrit:gerrit-acceptance-framework:$GERRIT_VERSION"
    for part in bcprov bcpkix bcpg bcutil; do gerrit_jar "org.bouncycastle:$part-jdk18on:$BOUNCYCASTLE_VERSION"; done
    # The jars have no version file of their own; without one the server calls itself "(dev)".
    echo "$GERRIT_VERSION" >"$GERRIT_JARS/classes/com/google/gerrit/common/Version"
    javac --release 17 -d "$GERRIT_JARS/classes" "$HERE/gerrit/GerritMain.java"
    touch "$GERRIT_JARS/.complete"
    say "gerrit: $GERRIT_VERSION installed"
  fi
  [ -d "$GERRIT_TEMPLATE" ] || gerrit_make_template
}
gerrit_make_template() {
  local who making
  say "gerrit: making and seeding a site"
  rm -rf "$CACHE"/gerrit-making.*
  old_templates "$CACHE"/gerrit-site-*
  making=$(mktemp -d "$CACHE/gerrit-making.XXXXXX")
  mkdir "$making/gerrit" "$making/gerrit/keys"
  gerrit_command
  "${GERRIT[@]}" Init -d "$making/gerrit/site" --batch --dev --no-auto-start --skip-plugins >"$making/init.log" 2>&1 9>&- ||
    die "gerrit init failed$(last_lines "$making/init.log")"
  for who in admin alice bob zuul acme-ci; do ssh-keygen -q -t ed25519 -N '' -C "$who" -f "$making/gerrit/keys/$who"; done
  (
    STATE=$making
    gerrit_start
    trap 'ended gerrit; stop 20 "$STATE/gerrit/daemon.pid"' EXIT
    "$PYTHON" "$HERE/gerrit/seed.py" "http://127.0.0.1:$(remembered_port "$STATE/gerrit/ports" http)" "$STATE/gerrit/keys"
  )
  rm -f "$making"/gerrit/{ports,env,known_hosts,daemon.log,daemon.pid}
  mv "$making/gerrit" "$GERRIT_TEMPLATE"
  rm -rf "$making"
}

gerrit_start() {
  local d=$STATE/gerrit site=$STATE/gerrit/site http ssh url key setting end
  http=$(remembered_port "$d/ports" http "${TESTBED_GERRIT_HTTP_PORT:-}")
  ssh=$(remembered_port "$d/ports" ssh "${TESTBED_GERRIT_SSH_PORT:-}")
  url=http://127.0.0.1:$http
  # commitWithin 0: the search index is committed at every write, so that a killed server still finds, by query, what it acknowledged.
  for setting in "httpd.listenUrl=$url/" "gerrit.canonicalWebUrl=$url/" "sshd.listenAddress=127.0.0.1:$ssh" sendemail.enable=false \
    change.maxPatchSets=100000 change.maxComments=1000000 change.cumulativeCommentSizeLimit=1g \
    index.changes_open.commitWithin=0 index.changes_closed.commitWithin=0 sshd.maxConnectionsPerUser=256 sshd.threads=16; do
    git config -f "$site/etc/gerrit.config" "${setting%%=*}" "${setting#*=}"
  done
  for key in "$site"/etc/ssh_host_*_key.pub; do echo "[127.0.0.1]:$ssh $(cut -d' ' -f1,2 "$key")"; done >"$d/known_hosts"
  gerrit_command
  spawn "$d/daemon.pid" "$d/daemon.log" "${GERRIT[@]}" Daemon -d "$site" --headless --enable-sshd --console-log
  end=$((SECONDS + 180))
  until curl -fso /dev/null -u admin:secret "$url/a/config/server/version" && connects "$ssh"; do
    alive "$d/daemon.pid" >/dev/null || die "gerrit ended"
    [ $SECONDS -lt $end ] || die "gerrit does not answer at $url$(last_lines "$d/daemon.log")"
    sleep 0.1
  done
  cat >"$d/env" <<ENV
GERRIT_URL=$url
GERRIT_SSH_HOST=127.0.0.1
GERRIT_SSH_PORT=$ssh
GERRIT_KEYS=$d/keys
GERRIT_KNOWN_HOSTS=$d/known_hosts
GERRIT_PID=$(alive "$d/daemon.pid")
ENV
}
gerrit_answers() { # its REST within 5 s?
  local d=$STATE/gerrit
  curl -fso /dev/null --max-time 5 "http://127.0.0.1:$(remembered_port "$d/ports" http)/config/server/version"
}
up_gerrit() {
  local d=$STATE/gerrit
  if alive_gerrit >/dev/null && gerrit_answers; then return; fi
  stop 1 "$d/daemon.pid"
  if [ ! -d "$d/site" ]; then
    mkdir -p "$d"
    cp -a "$GERRIT_TEMPLATE/keys" "$d/"
    cp -a "$GERRIT_TEMPLATE/site" "$d/site.new"
    mv "$d/site.new" "$d/site"
  fi
  gerrit_start
  say "gerrit: $(sed -n 's/^GERRIT_URL=//p' "$d/env"), ssh port $(sed -n 's/^GERRIT_SSH_PORT=//p' "$d/env")"
}
down_gerrit() {
  stop 20 "$STATE/gerrit/daemon.pid"
  rm -f "$STATE/gerrit/env"
}
alive_gerrit() { alive "$STATE/gerrit/daemon.pid"; }
