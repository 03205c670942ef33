# Print the interpreter of the process that listens on port $1: that of its environment, else its executable.
port=$(printf ':%04X' "$1")
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | while read -r _ local _ state _ _ _ _ _ inode _; do
    case "$state $local" in "0A "*"$port") ;; *) continue ;; esac
    for fd in /proc/[0-9]*/fd/*; do
        [ "$(readlink "$fd")" = "socket:[$inode]" ] || continue
        process=${fd%/fd/*}
        site=$(grep -o -m 1 '/.*/lib/python[0-9.]*/site-packages/' "$process/maps")
        for python in "${site:+${site%/lib/python*}/bin/python}" "$(readlink "$process/exe")"; do
            if [ -x "$python" ]; then
                echo "$python"
                exit
            fi
        done
    done
done
