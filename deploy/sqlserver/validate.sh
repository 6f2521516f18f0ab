#!/usr/bin/env bash
# Asks a real pair of SQL Servers what witness-agent takes for granted and could not be tested without them.
#
# It works on databases that it makes itself (witness_validate_1 and so on) and removes at the end; it stops instances
# and cuts the link between them where a step needs that. NEVER run it where people work: it refuses to begin unless
# VALIDATE_BREAKS_THIS_PAIR=yes, and it refuses instances that hold other databases unless VALIDATE_BESIDE_OTHERS=yes.
#
#   validate.sh [STEP ...]      steps: rights errors witness block restart group; all without arguments
#
# Each finding is one line: step | what | expected | found. Lines that begin with DIFFERS are what the documentation of
# this project must be mended for; please report them with the version of the server. The exit code is the number of
# such lines, or 100 if the script could not work.
#
# What it needs, by environment variables:
#   A, B                     the two instances, as sqlcmd -S takes them; A is principal at the beginning
#   SQLCMD                   sqlcmd with the options to log in as sysadmin; "sqlcmd -E -C" if not set
#   AGENT_SQLCMD             the same with the agent's login (create-login.sql); the step rights needs it
#   A_ENDPOINT, B_ENDPOINT   the mirroring endpoints, TCP://host:port; they exist and are started
#   SHARE_A, SHARE_B         one directory for backups, as A and as B name it
#   WITNESS, SPARE           endpoints of two witnesses (step witness; errors uses WITNESS too)
#   CUT, HEAL                commands that drop all packets between the mirroring ports, silently, and let them pass again
#   KILL_A, START_A          commands that end A's process at once, and start it
#   GROUP                    an availability group with CLUSTER_TYPE = EXTERNAL over A and B (step group)
#   DATABASES                how many databases to mirror; 10 if not set
set -u
set -o pipefail

SQLCMD=${SQLCMD:-sqlcmd -E -C}
DATABASES=${DATABASES:-10}
differs=0
here=$(cd "$(dirname "$0")" && pwd)

fail() { echo "validate.sh: $*" >&2; exit 100; }

# need VARIABLE...: the step cannot be done without them.
need() {
    local name
    for name in "$@"; do
        [ -n "${!name:-}" ] || fail "set $name (see the head of this script)"
    done
}

# sql INSTANCE TEXT: the answer, without headings, trimmed; errors as "Msg NUMBER".
# The word of CUT, HEAL, SQLCMD and the like is split on purpose: they are commands with arguments.
sql() {
    # shellcheck disable=SC2086
    $SQLCMD -S "$1" -d master -h -1 -W -b -r1 -l 5 -Q "SET NOCOUNT ON; $2" 2>&1 |
        sed -e 's/^Msg \([0-9]*\).*/Msg \1/' -e '/^Server .*, Line /d'
}

# number INSTANCE TEXT: the number of the error that a statement gives, 0 if none.
number() {
    local answer
    answer=$(sql "$1" "$2" | sed -n 's/^Msg \([0-9]*\)$/\1/p' | head -n 1)
    echo "${answer:-0}"
}

# finding STEP WHAT EXPECTED FOUND
finding() {
    if [ "$3" = "$4" ]; then
        echo "ok      $1 | $2 | $3 | $4"
    else
        echo "DIFFERS $1 | $2 | $3 | $4"
        differs=$((differs + 1))
    fi
}

# shows STEP WHAT FOUND: for what has no expectation.
shows() { echo "found   $1 | $2 | | $3"; }

seconds() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(seconds)" 'BEGIN { printf "%.1f", b - a }'; }

# state INSTANCE DATABASE COLUMN
state() { sql "$1" "SELECT $3 FROM sys.database_mirroring WHERE database_id = DB_ID(N'$2')"; }

# until SECONDS WANTED COMMAND...: repeats the command until it prints what is wanted; prints what it printed last.
until_is() {
    local left=$(($1 * 5)) want=$2 got=
    shift 2
    while [ "$left" -gt 0 ]; do
        got=$("$@")
        [ "$got" = "$want" ] && break
        sleep 0.2
        left=$((left - 1))
    done
    echo "$got"
}

database() { echo "witness_validate_$1"; }

guard() {
    need A B A_ENDPOINT B_ENDPOINT SHARE_A SHARE_B
    [ "${VALIDATE_BREAKS_THIS_PAIR:-}" = yes ] ||
        fail "this stops instances and cuts links: set VALIDATE_BREAKS_THIS_PAIR=yes if nobody works on $A and $B"
    local instance others
    for instance in "$A" "$B"; do
        others=$(sql "$instance" "SELECT COUNT(*) FROM sys.databases WHERE database_id > 4 AND name NOT LIKE 'witness[_]validate[_]%'") ||
            fail "no answer from $instance: $others"
        [ "$others" = 0 ] || [ "${VALIDATE_BESIDE_OTHERS:-}" = yes ] ||
            fail "$instance holds $others other databases; set VALIDATE_BESIDE_OTHERS=yes if they may go down with it"
    done
}

setup() {
    local i d
    cleanup
    for i in $(seq "$DATABASES"); do
        d=$(database "$i")
        sql "$A" "CREATE DATABASE [$d]; ALTER DATABASE [$d] SET RECOVERY FULL" || fail "create $d"
        sql "$A" "CREATE TABLE [$d].dbo.t (v bigint NOT NULL)" || fail "create the table in $d"
        sql "$A" "BACKUP DATABASE [$d] TO DISK = N'$SHARE_A/$d.bak' WITH INIT; BACKUP LOG [$d] TO DISK = N'$SHARE_A/$d.trn' WITH INIT" >/dev/null || fail "back up $d"
        sql "$B" "RESTORE DATABASE [$d] FROM DISK = N'$SHARE_B/$d.bak' WITH NORECOVERY; RESTORE LOG [$d] FROM DISK = N'$SHARE_B/$d.trn' WITH NORECOVERY" >/dev/null || fail "restore $d"
        sql "$B" "ALTER DATABASE [$d] SET PARTNER = N'$A_ENDPOINT'" || fail "SET PARTNER of $d on B"
        sql "$A" "ALTER DATABASE [$d] SET PARTNER = N'$B_ENDPOINT'" || fail "SET PARTNER of $d on A"
    done
    for i in $(seq "$DATABASES"); do
        d=$(database "$i")
        [ "$(until_is 60 SYNCHRONIZED state "$A" "$d" mirroring_state_desc)" = SYNCHRONIZED ] || fail "$d is not SYNCHRONIZED"
    done
}

cleanup() {
    local i d
    for i in $(seq "$DATABASES"); do
        d=$(database "$i")
        sql "$A" "IF DB_ID(N'$d') IS NOT NULL ALTER DATABASE [$d] SET PARTNER OFF" >/dev/null
        sql "$B" "IF DB_ID(N'$d') IS NOT NULL ALTER DATABASE [$d] SET PARTNER OFF" >/dev/null
        sql "$A" "IF DB_ID(N'$d') IS NOT NULL DROP DATABASE [$d]" >/dev/null
        sql "$B" "IF DB_ID(N'$d') IS NOT NULL DROP DATABASE [$d]" >/dev/null
    done
}

# What the agent's login may see (H.8).
step_rights() {
    need AGENT_SQLCMD
    local instance answer rows
    for instance in "$A" "$B"; do
        # shellcheck disable=SC2086
        answer=$($AGENT_SQLCMD -S "$instance" -r1 -i "$here/validate.sql" -v Group="${GROUP:-none}" 2>&1)
        finding rights "errors of the agent's looks on $instance" "" \
            "$(printf '%s\n' "$answer" | sed -n 's/^Msg \([0-9]*\).*/\1/p' | sort -u | tr '\n' ' ')"
        # shellcheck disable=SC2086
        rows=$($AGENT_SQLCMD -S "$instance" -h -1 -W -Q "SET NOCOUNT ON; SELECT COUNT(*) FROM sys.database_mirroring m JOIN sys.databases d ON d.database_id = m.database_id WHERE d.name LIKE 'witness[_]validate[_]%' AND m.mirroring_guid IS NOT NULL" 2>&1)
        finding rights "sessions that the agent sees on $instance" "$DATABASES" "$rows"
    done
    shows rights "what a login with VIEW SERVER STATE and ALTER ANY DATABASE sees on the mirror" "run again with such a login in AGENT_SQLCMD"
}

# The numbers of the errors, by situation (H.2).
step_errors() {
    local d
    d=$(database 1)
    finding errors "FAILOVER on the mirror" 1470 "$(number "$B" "ALTER DATABASE [$d] SET PARTNER FAILOVER")"
    finding errors "FORCE_SERVICE on the mirror while connected" 1455 "$(number "$B" "ALTER DATABASE [$d] SET PARTNER FORCE_SERVICE_ALLOW_DATA_LOSS")"
    finding errors "RESUME on the mirror" 1470 "$(number "$B" "ALTER DATABASE [$d] SET PARTNER RESUME")"
    finding errors "SAFETY on the mirror" 1470 "$(number "$B" "ALTER DATABASE [$d] SET PARTNER SAFETY FULL")"
    finding errors "TIMEOUT out of range" 1476 "$(number "$A" "ALTER DATABASE [$d] SET PARTNER TIMEOUT 40000")"
    finding errors "WITNESS OFF without a witness" 1439 "$(number "$A" "ALTER DATABASE [$d] SET WITNESS OFF")"
    finding errors "WITNESS that is a partner" 1429 "$(number "$A" "ALTER DATABASE [$d] SET WITNESS = N'$B_ENDPOINT'")"
    finding errors "WITNESS that does not answer" 1456 "$(number "$A" "ALTER DATABASE [$d] SET WITNESS = N'TCP://127.0.0.1:9'")"
    finding errors "PARTNER of a database that is not mirrored" 1416 "$(number "$A" "ALTER DATABASE [model] SET PARTNER RESUME")"
    finding errors "opening the mirror's database" 954 "$(number "$B" "SELECT COUNT(*) FROM [$d].dbo.t")"
    finding errors "SET OFFLINE of a mirrored database" 1468 "$(number "$A" "ALTER DATABASE [$d] SET OFFLINE")"
    sql "$A" "ALTER DATABASE [$d] SET PARTNER SAFETY OFF" >/dev/null
    finding errors "FAILOVER with SAFETY OFF" 1477 "$(number "$A" "ALTER DATABASE [$d] SET PARTNER FAILOVER")"
    sql "$A" "ALTER DATABASE [$d] SET PARTNER SAFETY FULL" >/dev/null
    until_is 60 SYNCHRONIZED state "$A" "$d" mirroring_state_desc >/dev/null
    sql "$A" "ALTER DATABASE [$d] SET PARTNER SUSPEND" >/dev/null
    finding errors "state after SUSPEND" SUSPENDED "$(until_is 10 SUSPENDED state "$A" "$d" mirroring_state_desc)"
    finding errors "FAILOVER while suspended" 1422 "$(number "$A" "ALTER DATABASE [$d] SET PARTNER FAILOVER")"
    sql "$A" "ALTER DATABASE [$d] SET PARTNER RESUME" >/dev/null
    finding errors "state after RESUME" SYNCHRONIZED "$(until_is 60 SYNCHRONIZED state "$A" "$d" mirroring_state_desc)"
}

# SET WITNESS OFF and back for many databases under load (H.4).
step_witness() {
    need WITNESS SPARE
    local i d begun address
    load_begin
    for address in "$WITNESS" OFF "$SPARE" OFF; do
        begun=$(seconds)
        for i in $(seq "$DATABASES"); do
            d=$(database "$i")
            if [ "$address" = OFF ]; then
                finding witness "SET WITNESS OFF of $d" 0 "$(number "$A" "ALTER DATABASE [$d] SET WITNESS OFF")"
            else
                finding witness "SET WITNESS of $d" 0 "$(number "$A" "ALTER DATABASE [$d] SET WITNESS = N'$address'")"
                finding witness "$d is connected to $address" CONNECTED "$(until_is 15 CONNECTED state "$A" "$d" mirroring_witness_state_desc)"
            fi
        done
        shows witness "seconds for $DATABASES databases, witness $address" "$(since "$begun")"
    done
    d=$(database 1)
    shows witness "mirroring_witness_name without a witness" "'$(state "$A" "$d" mirroring_witness_name)'"
    shows witness "mirroring_witness_state_desc without a witness" "'$(state "$A" "$d" mirroring_witness_state_desc)'"
    load_end
}

load_begin() {
    local d
    d=$(database 1)
    (while :; do sql "$A" "INSERT INTO [$d].dbo.t VALUES (1)" >/dev/null; done) &
    load=$!
}

load_end() { kill "$load" 2>/dev/null; wait "$load" 2>/dev/null; }

# Do commits wait until PARTNER TIMEOUT when packets are dropped silently (H.1)?
step_block() {
    need CUT HEAL
    local d begun took
    d=$(database 1)
    sql "$A" "ALTER DATABASE [$d] SET PARTNER TIMEOUT 15" >/dev/null
    $CUT || fail "CUT did not work"
    begun=$(seconds)
    sql "$A" "INSERT INTO [$d].dbo.t VALUES (2)" >/dev/null
    took=$(since "$begun")
    # The time-out counts from the last ping, which came up to a second before the cut.
    finding block "a commit after a silent cut waits until PARTNER TIMEOUT (15 s)" yes \
        "$(awk -v t="$took" 'BEGIN { print (t >= 14) ? "yes" : "no, " t " s" }')"
    shows block "seconds that it waited" "$took"
    finding block "the principal's state after the cut" DISCONNECTED "$(until_is 30 DISCONNECTED state "$A" "$d" mirroring_state_desc)"
    $HEAL || fail "HEAL did not work"
    finding block "the state after the link is back" SYNCHRONIZED "$(until_is 120 SYNCHRONIZED state "$A" "$d" mirroring_state_desc)"
}

# Does a principal that starts without its mirror serve at once (H.3)? The agent takes it that it does.
step_restart() {
    need CUT HEAL KILL_A START_A
    local d begun answer
    d=$(database 1)
    $KILL_A || fail "KILL_A did not work"
    finding restart "the mirror's state after the principal's end" DISCONNECTED "$(until_is 30 DISCONNECTED state "$B" "$d" mirroring_state_desc)"
    $CUT || fail "CUT did not work"
    $START_A || fail "START_A did not work"
    begun=$(seconds)
    answer=$(until_is 120 1 sql "$A" "SELECT 1 FROM [$d].dbo.t HAVING COUNT(*) > 0")
    shows restart "seconds from the start until the cut-off principal serves ($answer)" "$(since "$begun")"
    finding restart "a commit on it is acknowledged" 0 "$(number "$A" "INSERT INTO [$d].dbo.t VALUES (3)")"
    finding restart "forced service on the mirror" 0 "$(number "$B" "ALTER DATABASE [$d] SET PARTNER FORCE_SERVICE_ALLOW_DATA_LOSS")"
    $HEAL || fail "HEAL did not work"
    finding restart "the old principal's role after the link is back" MIRROR "$(until_is 60 MIRROR state "$A" "$d" mirroring_role_desc)"
    finding restart "its state" SUSPENDED "$(until_is 30 SUSPENDED state "$A" "$d" mirroring_state_desc)"
    sql "$B" "ALTER DATABASE [$d] SET PARTNER RESUME" >/dev/null
    finding restart "its state after RESUME" SYNCHRONIZED "$(until_is 120 SYNCHRONIZED state "$A" "$d" mirroring_state_desc)"
    sql "$B" "ALTER DATABASE [$d] SET PARTNER FAILOVER" >/dev/null
    until_is 60 PRINCIPAL state "$A" "$d" mirroring_role_desc >/dev/null
}

role() { sql "$1" "SELECT ars.role_desc FROM sys.availability_groups ag JOIN sys.dm_hadr_availability_replica_states ars ON ars.group_id = ag.group_id AND ars.is_local = 1 WHERE ag.name = N'$GROUP'"; }

# OFFLINE, FAILOVER from RESOLVING, the required secondaries and the write lease (H.5 to H.7).
step_group() {
    need GROUP
    local begun external="EXEC sp_set_session_context @key = N'external_cluster', @value = N'yes';"
    finding group "role of A at the beginning" PRIMARY "$(role "$A")"
    finding group "require one secondary" 0 "$(number "$A" "ALTER AVAILABILITY GROUP [$GROUP] SET (REQUIRED_SYNCHRONIZED_SECONDARIES_TO_COMMIT = 1)")"
    finding group "FAILOVER on the primary" 41122 "$(number "$A" "$external ALTER AVAILABILITY GROUP [$GROUP] FAILOVER")"
    shows group "error of WRITE_LEASE_VALIDITY = 20 (47116: the group has no write lease)" "$(number "$A" "ALTER AVAILABILITY GROUP [$GROUP] SET (WRITE_LEASE_VALIDITY = 20)")"
    shows group "error of WRITE_LEASE_VALIDITY = 1 after it (47119: earlier than the present end)" "$(number "$A" "ALTER AVAILABILITY GROUP [$GROUP] SET (WRITE_LEASE_VALIDITY = 1)")"
    begun=$(seconds)
    finding group "OFFLINE on the primary" 0 "$(number "$A" "ALTER AVAILABILITY GROUP [$GROUP] OFFLINE")"
    finding group "role of A after OFFLINE" RESOLVING "$(until_is 30 RESOLVING role "$A")"
    shows group "seconds until it was RESOLVING" "$(since "$begun")"
    begun=$(seconds)
    finding group "FAILOVER on B" 0 "$(number "$B" "$external ALTER AVAILABILITY GROUP [$GROUP] FAILOVER")"
    finding group "role of B" PRIMARY "$(until_is 60 PRIMARY role "$B")"
    shows group "seconds until it was PRIMARY" "$(since "$begun")"
    finding group "ROLE = SECONDARY on A" 0 "$(number "$A" "ALTER AVAILABILITY GROUP [$GROUP] SET (ROLE = SECONDARY)")"
    finding group "role of A" SECONDARY "$(until_is 30 SECONDARY role "$A")"
    if [ -n "${KILL_A:-}" ] && [ -n "${START_A:-}" ]; then
        $KILL_A || fail "KILL_A did not work"
        begun=$(seconds)
        shows group "error of requiring no secondary while the only one is down" "$(number "$B" "ALTER AVAILABILITY GROUP [$GROUP] SET (REQUIRED_SYNCHRONIZED_SECONDARIES_TO_COMMIT = 0)")"
        shows group "seconds that it took" "$(since "$begun")"
        $START_A || fail "START_A did not work"
        shows group "role of A after its start, before it is told anything" "$(until_is 60 RESOLVING role "$A")"
        sql "$A" "ALTER AVAILABILITY GROUP [$GROUP] SET (ROLE = SECONDARY)" >/dev/null
    fi
}

steps=${*:-rights errors witness block restart group}
for step in $steps; do
    case $step in
    rights | errors | witness | block | restart | group) ;;
    *) fail "no step is called $step" ;;
    esac
done
guard
shows version A "$(sql "$A" "SELECT CONVERT(nvarchar(100), SERVERPROPERTY('ProductVersion')) + ' ' + CONVERT(nvarchar(100), SERVERPROPERTY('Edition'))")"
shows version B "$(sql "$B" "SELECT CONVERT(nvarchar(100), SERVERPROPERTY('ProductVersion')) + ' ' + CONVERT(nvarchar(100), SERVERPROPERTY('Edition'))")"
case " $steps " in
*" group "*) [ "$steps" = group ] || setup ;;
*) setup ;;
esac
for step in $steps; do
    "step_$step"
done
[ "$steps" = group ] || cleanup
echo "$differs findings differ from what the documentation says"
exit "$((differs > 99 ? 99 : differs))"
