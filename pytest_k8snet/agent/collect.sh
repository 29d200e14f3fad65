# Reads on a node, by POSIX shell and its tools alone, what the agent reads by python3. It runs as `sh -s`, with this text on its stdin, and
# changes nothing: what would load a kernel module by being asked is not asked before it is seen to be there.
#
# What stands before it assigns:
#   mark        a word that occurs in no output
#   what        facts, ipvs, or activity
#   uplink_ip   the node's address, or nothing
#   sysctls     files below /proc/sys; {uplink} stands for the uplink's name
#   sysctl_dirs folders of sysctl.d
#   tools       programs to look for
#   peers       addresses to ask the route to
#   bird_sockets, flannel_file, cilium_socket  files of networks' daemons
#   kubelite_file  of the kubelet's arguments in MicroK8s
#   namespace_files  folders where container runtimes keep network namespaces
#   pods        how many running pods to look into
#   skip        a namespace whose pods are left out, or nothing
#
# It writes sections to stdout, and marks on stderr where those begin. collected.py reads both.
# shellcheck shell=sh disable=SC2013,SC2086,SC2154

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL

proxy_port=10249

begin() {
    printf '\n%s begin %s\n' "$mark" "$1"
    printf '\n%s begin %s\n' "$mark" "$1" >&2
}

end() {
    printf '\n%s end %s\n' "$mark" "$1"
}

# section NAME COMMAND [ARGUMENT...]
section() {
    begin "$1"
    shift
    "$@" </dev/null
    end "$?"
}

batch() {
    printf '%s\n' "$@" | ip -j -d -force -batch -
}

# One process for many files: each line comes with the file's name.
lines_of() {
    grep '' "$@" /dev/null
}

find_uplink() {
    uplink=
    [ -n "$uplink_ip" ] || return 0
    begin uplink
    answer=$(ip -j addr show to "$uplink_ip" </dev/null)
    found=$?
    printf '%s\n' "$answer"
    end "$found"
    rest=$answer
    while [ "$rest" != "${rest#*\"ifname\":\"}" ]; do
        rest=${rest#*\"ifname\":\"}
        uplink=${rest%%\"*}
        # kube-proxy puts addresses of Services there, which may be the node's.
        [ "$uplink" = kube-ipvs0 ] || return 0
        uplink=
    done
}

sysctl_files() {
    paths=
    for path in $sysctls; do
        case $path in
        *'{uplink}'*) path=${path%%'{uplink}'*}${uplink:-default}${path#*'{uplink}'} ;;
        esac
        paths="$paths $path"
    done
    section sysctls lines_of $paths
}

kernel_files() {
    section files lines_of /proc/sys/kernel/osrelease /proc/sys/net/netfilter/nf_conntrack_count \
        /proc/sys/net/netfilter/nf_conntrack_max /proc/sys/net/netfilter/nf_conntrack_buckets /sys/class/dmi/id/sys_vendor \
        /sys/class/dmi/id/product_name /sys/hypervisor/type "/sys/class/net/${uplink:-none}/speed" \
        "/sys/class/net/${uplink:-none}/duplex" /proc/net/if_inet6 /proc/net/stat/arp_cache \
        /proc/net/stat/ndisc_cache /sys/class/net/*/device/net/*/speed
    section cpuinfo head -n 60 /proc/cpuinfo # the first processor tells
    section devices device_files
    section modules ls /sys/module
    read -r release </proc/sys/kernel/osrelease
    section 'modules built in' grep -h /net/ "/lib/modules/$release/modules.builtin"
}

# What the kernel counts since its start. Of its log: the messages of a full connection table, and the last one that has a time.
activity() {
    section activity lines_of /proc/uptime /proc/net/softnet_stat /proc/net/dev /proc/net/stat/nf_conntrack
    section processor grep '^cpu' /proc/stat
    begin log
    dmesg </dev/null | sed -n -e '/^\[/h' -e '/nf_conntrack: table full/p' -e '${g' -e p -e '}'
    end 0
}

clock() {
    begin clock
    if command -v busybox >/dev/null; then
        busybox adjtimex </dev/null
    elif command -v adjtimex >/dev/null; then
        adjtimex --print </dev/null
    else
        echo 'no busybox and no adjtimex on the node' >&2
        false
    fi
    end "$?"
}

# The files that say what kind of device each one is.
device_files() {
    for path in /sys/class/net/*; do
        for file in device bonding bridge brport; do
            [ ! -e "$path/$file" ] || echo "$path/$file"
        done
        [ ! -e "/proc/net/vlan/${path##*/}" ] || echo "/proc/net/vlan/${path##*/}"
    done
}

persisted() {
    begin directories
    set --
    for directory in $sysctl_dirs; do
        cd -P "$directory" 2>/dev/null || continue
        echo "directory $directory $PWD"
        for file in *.conf; do
            [ -e "$file" ] || continue
            echo "file $file"
            set -- "$@" "$directory/$file"
        done
    done
    cd /
    end 0
    # systemd-sysctl reads this file only by a link in a folder.
    [ -d /run/systemd/system ] || [ ! -e /etc/sysctl.conf ] || set -- "$@" /etc/sysctl.conf
    begin assignments
    assigned=$(grep -n -e '=' -e '^[[:blank:]]*-' "$@" /dev/null)
    found=$?
    printf '%s\n' "$assigned"
    end "$found"
    # The first separator of a key says which kind it uses; the shell takes patterns apart.
    section running lines_of $(printf '%s\n' "$assigned" |
        sed -n -e 's,^[^:]*:[0-9]*:[[:blank:]]*-*\(net[./][^=[:blank:]]*\)[[:blank:]]*=.*,\1,p' |
        sed -e '/^net\//!y,./,/.,' -e 's,^,/proc/sys/,' | sort -u)
}

# http ADDRESS PATH [PORT]: what kube-proxy answers there, with its headers
http() {
    port=${3:-10249}
    case $1 in
    *:*) host="[$1]" ;;
    *) host=$1 ;;
    esac
    if command -v curl >/dev/null; then
        curl -s -S -i --http1.0 --noproxy '*' --max-time 3 "http://$host:$port$2" </dev/null
    elif command -v bash >/dev/null && command -v timeout >/dev/null; then
        # shellcheck disable=SC2016
        timeout 5 bash -c 'exec 3<>"/dev/tcp/$0/$2" && printf "GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n" "$1" >&3 && cat <&3' \
            "$1" "$2" "$port" </dev/null
    elif command -v nc >/dev/null; then
        printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$2" | nc -w 3 "$1" "$port"
    elif command -v wget >/dev/null; then
        body=$(wget -q -T 3 -O - "http://$host:$port$2" </dev/null) || return $?
        printf 'HTTP/1.0 200 OK\r\n\r\n%s' "$body"
    else
        echo 'no curl, bash, nc or wget on the node' >&2
        return 127
    fi
}

# What kube-proxy's metrics say of its syncs; they are hundreds of kilobytes otherwise.
sync_metrics() {
    http "$1" /metrics "$proxy_port" | grep -e '^HTTP/' -e '^.$' -e '^kubeproxy_sync_proxy_rules_.*\(timestamp_seconds\|failures_total\)' \
        -e '^process_start_time_seconds'
}

# listening PORT: whether somebody listens there
listening() {
    grep -q "^ *[0-9]*: [0-9A-F]*:$(printf %04X "$1") [0-9A-F]*:0000 0A " /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# The port that kube-proxy's configuration names, of the one in this network namespace: beside a file its flags do not count.
find_proxy_port() {
    own=$(readlink /proc/self/ns/net)
    for path in $(grep -l kube-proxy /proc/[0-9]*/cmdline 2>/dev/null); do
        set -- $(tr '\0' '\n' <"$path" 2>/dev/null)
        [ "${1##*/} $(readlink "${path%/cmdline}/ns/net")" = "kube-proxy $own" ] || continue
        config='' bound=''
        while [ $# -gt 0 ]; do
            case $1 in
            --config) config=$2 ;;
            --config=*) config=${1#*=} ;;
            --metrics-bind-address) bound=$2 ;;
            --metrics-bind-address=*) bound=${1#*=} ;;
            esac
            shift
        done
        [ -z "$config" ] || bound=$(regular "${path%/cmdline}/root$config" |
            sed -n 's/.*metricsBindAddress"*: *\([^ ,]*\).*/\1/p' | tr -d "\"'")
        case ${bound##*:} in
        '' | *[!0-9]*) ;;
        *) proxy_port=${bound##*:} ;;
        esac
        return 0
    done
}

kube_proxy() {
    # Nobody is asked on a port on which nobody listens.
    listening "$proxy_port" || find_proxy_port
    section 'proxy port' echo "$proxy_port"
    listening "$proxy_port" || return 0
    for address in 127.0.0.1 ::1 $uplink_ip; do
        begin "http $address /proxyMode"
        answer=$(http "$address" /proxyMode "$proxy_port")
        found=$?
        printf '%s\n' "$answer"
        end "$found"
        case $answer in
        HTTP/1.[01]' 200'*)
            section "http $address /configz" http "$address" /configz "$proxy_port"
            if [ "$what" = facts ]; then
                section "http $address /metrics" sync_metrics "$address"
                section now date +%s
                section "http $address /livez" http "$address" /livez 10256
            fi
            return 0
            ;;
        esac
    done
}

# A file whose path somebody in a pod may have chosen: reading a pipe would never end.
regular() {
    [ -f "$1" ] && head -c 262144 "$1"
}

# kubelite ARGUMENT...: of the file from which MicroK8s' one process has the kubelet's arguments the lines that are of interest, and in $words
# what it makes of them. The snap's own folders follow from where the file is.
kubelite() {
    words='' arguments=$kubelite_file
    while [ $# -gt 0 ]; do
        case $1 in
        --kubelet-args-file) arguments=$2 ;;
        --kubelet-args-file=*) arguments=${1#*=} ;;
        esac
        shift
    done
    [ -r "$arguments" ] || return 0
    section "kubelet arguments $arguments" grep -e -cluster-d -e -resolv-conf -e -config "$arguments"
    data=${arguments%/args/*}
    for word in $(grep -v '^[[:space:]]*#' "$arguments" | tr -d "\"'"); do
        case $word in
        *'${SNAP_DATA}'*) word=${word%%'${SNAP_DATA}'*}$data${word#*'${SNAP_DATA}'} ;;
        *'$SNAP_DATA/'*) word=${word%%'$SNAP_DATA/'*}$data/${word#*'$SNAP_DATA/'} ;;
        *'${SNAP_COMMON}'*) word=${word%%'${SNAP_COMMON}'*}${data%/*}/common${word#*'${SNAP_COMMON}'} ;;
        *'$SNAP_COMMON/'*) word=${word%%'$SNAP_COMMON/'*}${data%/*}/common/${word#*'$SNAP_COMMON/'} ;;
        esac
        words="$words $word"
    done
}

# What the kubelet is told of names: its command line, its files, and the resolver's. collected.py keeps a few keys of them.
kubelet() {
    for path in $(grep -l kubelet /proc/[0-9]*/cmdline 2>/dev/null); do
        set -- $(tr '\0' '\n' <"$path" 2>/dev/null)
        case "${1##*/} $2" in
        kubelet\ * | hyperkube\ kubelet | kubelite\ *) ;;
        *) continue ;;
        esac
        # One in a pod is not the node's.
        ! grep -q 'pod[0-9a-f]\{8\}[-_]*[0-9a-f]\{4\}' "${path%/cmdline}/cgroup" 2>/dev/null || continue
        section "kubelet $path" cat "$path"
        case ${1##*/} in
        kubelite)
            kubelite "$@"
            set -- $words
            ;;
        esac
        config= folder=/nowhere resolvers=/etc/resolv.conf
        while [ $# -gt 0 ]; do
            case $1 in
            -config | --config) config=$2 ;;
            -config=* | --config=*) config=${1#*=} ;;
            -config-dir | --config-dir) folder=$2 ;;
            -config-dir=* | --config-dir=*) folder=${1#*=} ;;
            -resolv-conf | --resolv-conf) resolvers="$resolvers $2" ;;
            -resolv-conf=* | --resolv-conf=*) resolvers="$resolvers ${1#*=}" ;;
            esac
            shift
        done
        for file in "$config" "$folder"/*.conf; do
            [ -r "$file" ] || continue
            section "kubelet file $file" cat "$file"
            resolvers="$resolvers $(sed -n 's/.*resolvConf"*: *["'\'']*\([^"'\'',# }]*\).*/\1/p' "$file")"
        done
        for file in $resolvers; do
            [ ! -r "$file" ] || section "kubelet resolver $file" cat "$file"
        done
        return
    done
}

# What nginx in pods runs with, before its first server: collected.py keeps a few directives.
nginx() {
    for path in $(grep -l '^nginx: master process' /proc/[0-9]*/cmdline 2>/dev/null); do
        pid=${path%/cmdline}
        section "nginx cmdline $pid" cat "$path"
        section "nginx cgroup $pid" cat "$pid/cgroup"
        file=$(tr '\0' ' ' <"$path" | sed -n 's,.* -c *\(/[^ ]*\).*,\1,p')
        file=$pid/root${file:-/etc/nginx/nginx.conf}
        begin "nginx file $pid"
        regular "$file" | sed '/^[[:space:]]*server[[:space:]]*{/q'
        end 0
        section 'nginx pods' ls /var/log/pods
    done
}

# Processes that may be kube-proxy, and the network namespaces of all.
processes() {
    for path in $(grep -l -e kube-proxy -e hyperkube /proc/[0-9]*/cmdline 2>/dev/null); do
        section "$path" cat "$path"
    done
    begin namespaces
    namespaces=$(ls -l /proc/[0-9]*/ns/net /proc/self/ns/net 2>/dev/null)
    printf '%s\n' "$namespaces"
    end 0
}

ip_vs() {
    [ ! -e /proc/net/ip_vs ] || section ip_vs cat /proc/net/ip_vs
    section kube-ipvs0 [ -e /sys/class/net/kube-ipvs0 ]
}

iptables() {
    for family in ip ip6; do
        names=/proc/net/${family}_tables_names
        [ -e "$names" ] || continue
        section "$names" cat "$names"
        ! grep -q '^nat$' "$names" || section "${family}tables-legacy-save" "${family}tables-legacy-save" -t nat
    done
    list=/lib/modules/$release/modules.builtin
    # Without a list of modules there is nothing that asking could load.
    [ -e /sys/module/nf_tables ] || [ ! -r "$list" ] || grep -q '/nf_tables\.ko' "$list" || return 0
    begin nft
    tables=$(nft -j list tables </dev/null)
    found=$?
    printf '%s\n' "$tables"
    end "$found"
    for family in ip ip6; do
        case $tables in
        *"\"family\": \"$family\", \"name\": \"nat\""*) ;;
        *) continue ;;
        esac
        begin "${family}tables-nft-save"
        rules=$("${family}tables-nft-save" -t nat </dev/null)
        found=$?
        printf '%s\n' "$rules"
        end "$found"
        case $rules in
        *"incompatible, use 'nft' tool"*) section "nft chains $family" nft -j list chains "$family" ;;
        esac
    done
}

routes_to_peers() {
    set --
    for address in $peers; do
        set -- "$@" "route get $address"
    done
    [ $# = 0 ] || section peers batch "$@"
}

networks() {
    for device in $(ip -br link show type vxlan </dev/null 2>/dev/null | sed 's/[ @].*//'); do
        section "device $device" ip -j -d link show dev "$device"
        section "neighbours $device" ip -j neigh show dev "$device"
        section "fdb $device" bridge -j fdb show dev "$device"
    done
    for path in $bird_sockets; do
        [ ! -e "$path" ] || section "bird $path" birdc -s "$path" show protocols
    done
    [ ! -e "$flannel_file" ] || section flannel lines_of "$flannel_file"
    if [ -e "$cilium_socket" ]; then
        section cilium curl -s -i -m 10 --unix-socket "$cilium_socket" http://localhost/v1/healthz
        section "cilium config" curl -s -i -m 10 --unix-socket "$cilium_socket" http://localhost/v1/config
        section "cilium bgp" curl -s -i -m 10 --unix-socket "$cilium_socket" http://localhost/v1/bgp/peers
    fi
}

# The network namespaces that container runtimes keep by a file.
kept_namespaces() {
    for path in $namespace_files; do
        ls -di "$path"/* 2>/dev/null
    done | sed 's/^ *\([0-9]*\) .*/net:[\1]/'
}

# Lines PID=UID of the processes whose control groups are given: a pod's uid is in their paths, whichever driver makes them.
uids_of() {
    lines_of "$@" 2>/dev/null |
        sed -n 's,^/proc/\([0-9]*\)/cgroup:.*pod\([0-9a-f]\{8\}[-_]*[0-9a-f]\{4\}[-_]*[0-9a-f]\{4\}[-_]*[0-9a-f]\{4\}[-_]*[0-9a-f]\{12\}\).*,\1=\2,p' |
        tr _ -
}

# Lines "NAME PID NAMESPACE" of the pods that have a network namespace of their own, sorted by name. NAME is namespace/name when there are
# logs of the pod, else its uid. Of several namespaces of a pod's processes the pod's is the one that the runtime keeps, else the first one.
# A pod with a process in the node's namespace has none of its own, whatever else there is (Cilium's health endpoint).
running_pods() {
    own=
    set --
    for word in $namespaces; do
        case $word in
        /proc/*/ns/net) pid=${word#/proc/} && pid=${pid%/ns/net} ;;
        net:*)
            case $pid in
            1 | self) own="$own $word " ;;
            *[!0-9]*) ;;
            *) eval "namespace_$pid=\$word" && set -- "$@" "$pid" ;;
            esac
            ;;
        esac
    done
    kept=" $(kept_namespaces | tr '\n' ' ') "
    foreign='' others='' ours=''
    for pid in $(printf '%s\n' "$@" | sort -n); do
        eval "namespace=\$namespace_$pid"
        case $own in
        *" $namespace "*)
            ours="$ours /proc/$pid/cgroup"
            continue
            ;;
        esac
        case $kept in
        *" $namespace "*) foreign="$foreign /proc/$pid/cgroup" ;;
        *) others="$others /proc/$pid/cgroup" ;;
        esac
    done
    entries=
    for path in /var/log/pods/*; do
        entries="$entries ${path##*/}"
    done
    of_node=" $(uids_of $ours | sed 's/.*=//' | tr '\n' ' ') "
    seen='' named=' '
    for found in $(uids_of $foreign $others); do
        pid=${found%%=*}
        uid=${found#*=}
        case $of_node in
        *" $uid "*) continue ;;
        esac
        eval "namespace=\$namespace_$pid"
        case $seen in
        *" $namespace "*) continue ;;
        esac
        seen="$seen $namespace "
        name=$uid
        for entry in $entries; do
            case $entry in
            *_*_*_*) ;;
            *_*_"$uid") name=${entry%_*} && name=${name%%_*}/${name#*_} ;;
            esac
        done
        case $named in
        *" $name "*) continue ;;
        esac
        named="$named$name "
        case $name in
        "${skip:-/}"/*) ;;
        *) echo "$name $pid $namespace" ;;
        esac
    done | sort
}

existing_pods() {
    begin pods
    running=$(running_pods)
    printf '%s\n' "$running"
    end 0
    # What runs in each pod's network namespace: the tools are the node's own.
    # shellcheck disable=SC2016
    look='
        printf "\n%s begin inside %s\n" "$0" "$1"
        ls -l /proc/self/ns/net
        printf "\n%s end %s\n" "$0" "$?"
        printf "\n%s begin network %s\n" "$0" "$1"
        printf "\n%s begin network %s\n" "$0" "$1" >&2
        printf "link show\nroute show\n" | ip -j -d -force -batch -
        printf "\n%s end %s\n" "$0" "$?"
        printf "\n%s begin routes6 %s\n" "$0" "$1"
        ip -j -6 route show </dev/null
        printf "\n%s end %s\n" "$0" "$?"
        printf "\n%s begin sysctls %s\n" "$0" "$1"
        printf "\n%s begin sysctls %s\n" "$0" "$1" >&2
        shift
        grep "" "$@" /proc/net/if_inet6 /dev/null
        printf "\n%s end %s\n" "$0" "$?"
    '
    number=0
    set -- $running
    while [ $# -ge 3 ] && [ "$number" -lt "$pods" ]; do
        number=$((number + 1))
        printf '\n%s begin enter %s\n' "$mark" "$2" >&2
        nsenter --net="/proc/$2/ns/net" sh -c "$look" "$mark" "$2" $paths </dev/null
        found=$?
        printf '\n%s begin enter %s\n' "$mark" "$2"
        end "$found"
        section "resolv $2" regular "/proc/$2/root/etc/resolv.conf"
        shift 3
    done
}

main() {
    for tool in $tools; do
        section "tool $tool" command -v "$tool"
    done
    if [ "$what" = facts ]; then
        find_uplink
        section network batch 'link show' 'route show'
        section routes6 ip -j -6 route show
        [ -z "$uplink" ] || section 'neighbour entries' ip -j neigh show dev "$uplink"
        sysctl_files
        kernel_files
        activity
        clock
        persisted
        section qdiscs tc -j qdisc show
        iptables
        routes_to_peers
        networks
        processes
        kubelet
        nginx
        existing_pods
    fi
    if [ "$what" = activity ]; then
        find_uplink
        section devices device_files
        activity
    else
        ip_vs
        kube_proxy
    fi
    printf '\n%s done\n' "$mark"
}

main </dev/null
