#!/usr/bin/env bash
# Checks of an installed server: one function for each step, run in the container of
# in_container.sh as `bash steps.sh NAME`. A step exits with an error at the first failed check.
set -Eeuo pipefail

OPT=/opt/classifyd ETC=/etc/classifyd VAR=/var/lib/classifyd
here=$(cd "$(dirname "$0")" && pwd)
bundle=$(echo "$here"/bundle/classifyd-*/)
URL=http://127.0.0.1:8000

trap 'echo "  line $LINENO: $BASH_COMMAND" >&2' ERR

say() { printf '  %s\n' "$*"; }
wrong() { echo "  wrong: $*" >&2; exit 1; }

# The command must fail, and its output must contain the first argument.
refused() {
    local wanted=$1 said
    shift
    if said=$("$@" 2>&1); then wrong "$* succeeded: $said"; fi
    echo "$said" > /run/refused
    grep -q -- "$wanted" <<< "$said" || wrong "$* did not print '$wanted' but: $said"
    say "refused: $(grep -m 1 -- "$wanted" <<< "$said" | tr -s ' ')"
}
# The output must match; it goes to a file first, as grep -q would close the pipe early.
says() {
    local wanted=$1
    shift
    "$@" > /run/said 2>&1 || true
    grep -E -A 1 -- "$wanted" /run/said || { cat /run/said >&2; wrong "$* does not print '$wanted'"; }
}
verified() { classifydctl verify > /run/verify 2>&1 || { cat /run/verify >&2; wrong "classifydctl verify failed"; }; }
main_pid() { systemctl show -p MainPID --value classifyd; }
worker_pid() { head -n 1 "/proc/$(main_pid)/task/$(main_pid)/children" | cut -d ' ' -f 1; }
only_the_service() {
    [ "$(pgrep -c -f 'python -m gunicorn')" = $((1 + $(pgrep -c -P "$(main_pid)"))) ] \
        || wrong "other processes than the service run: $(pgrep -a -f 'python -m gunicorn')"
}
release() { basename "$(readlink $OPT/current)"; }
# ls fails as soon as one of them is missing, so its output is asked.
are_gone() {
    local left
    left=$(ls -d "$@" 2> /dev/null) || true
    [ -z "$left" ] || wrong "files are left: $left"
}
nothing_installed() {
    are_gone $OPT/* $ETC $VAR /usr/local/bin/classifyd* /etc/systemd/system/classifyd*
    if getent passwd classifyd || getent group classifyd; then wrong "the account still exists"; fi
}
# Only the files of a finished upgrade are left, and only the service runs.
nothing_left_over() {
    local entry
    for entry in $(ls -A $OPT); do
        case $entry in
            current | previous | "$(release)" | "$(basename "$(readlink $OPT/previous || true)")") ;;
            *) wrong "$OPT/$entry is left" ;;
        esac
    done
    only_the_service
}
occupy_port() {
    systemd-run --quiet --unit=squatter python3 -m http.server --bind 127.0.0.1 "$1"
    timeout 60 bash -c "until curl -s -o /dev/null http://127.0.0.1:$1; do sleep 0.1; done"
}
free_port() { systemctl stop squatter; }
under_load() {
    rm -f /run/stop /run/load
    python3 "$here/load.py" /run/stop > /run/load &
    local load=$!
    sleep 2
    "$@" || { touch /run/stop; wait $load; cat /run/load; exit 1; }
    sleep 2
    touch /run/stop
    wait $load
    say "$(cat /run/load)"
    # A request is lost if it was neither answered nor refused with 336100.
    grep -Eq "^answers \{'0': [0-9]+(, '336100': [0-9]+)?\}" /run/load || wrong "requests were lost"
}

unprepared_machine() {
    ( cd "$bundle" && ./install.sh --check-only > /dev/null ) || wrong "--check-only failed"
    local python
    python=$(readlink -f /usr/bin/python3)
    mv "$python" "$python.away"
    refused "this machine has none: install one of them" "$bundle/install.sh" --yes
    grep -q 'failure *port' /run/refused && wrong "the port was blamed too"
    mv "$python.away" "$python"
    occupy_port 8000
    refused "port 8000 on 127.0.0.1" "$bundle/install.sh" --yes
    free_port
    mount -t tmpfs -o size=300m tmpfs /opt
    refused "MB are needed" "$bundle/install.sh" --yes
    umount /opt
    nothing_installed
}

damaged_bundle() {
    local file
    for file in "$(ls "$bundle"/wheels/flask-*.whl)" "$bundle/release/app/factory.py" "$bundle/packages/imagenet/1/model.pt"; do
        cp "$file" /run/whole
        printf '\x00' | dd of="$file" bs=1 seek=1000 conv=notrunc status=none
        refused "damaged" "$bundle/install.sh" --yes
        cat /run/whole > "$file"
    done
    touch "$bundle/wheels/flask-99-py3-none-any.whl"
    refused "is not in SHA256SUMS" "$bundle/install.sh" --yes
    rm "$bundle/wheels/flask-99-py3-none-any.whl"
    nothing_installed
}

install_interrupted() {
    local signal installer
    for signal in TERM KILL; do
        setsid "$bundle/install.sh" --yes > /run/install 2>&1 &
        installer=$!
        until ls $OPT/*/venv/lib/python3*/site-packages/flask > /dev/null 2>&1; do sleep 0.2; done
        kill -s $signal -- -$installer
        wait $installer || true
        [ ! -e $OPT/current ] || wrong "an incomplete release is current"
    done
    # Packages whose copies were interrupted before and after the first byte.
    mkdir -p $VAR/weights/imagenet $VAR/weights/.imagenet.new
    echo half > $VAR/weights/.imagenet.new/model.pt
    : > $VAR/weights/imagenet/ACTIVE
}

one_command_install() {
    # On a hardened server too, the service must be able to read the installed files.
    (umask 077 && "$bundle/install.sh" --yes $INSTALL_OPTIONS) > /run/install 2>&1 || { cat /run/install; wrong "it failed"; }
    tail -n 9 /run/install
    grep -q "curl -s" /run/install || wrong "no curl line"
    says '"results"' bash -c "$(grep -m 1 '^  printf' /run/install)" | cut -c 1-72
    [ -s /usr/local/share/bash-completion/completions/classifyd ] || wrong "no completion for bash"
    local exposure
    exposure=$(systemd-analyze security classifyd --no-pager | tail -n 1)
    say "$exposure"
    [ "$(grep -o ' [0-9]*\.[0-9] ' <<< "$exposure" | tr -d ' .')" -le 30 ] || wrong "the exposure is above 3.0"
    [ "$(ps -o user= -p "$(main_pid)")" = classifyd ] || wrong "runs as another account"
    [ -z "$(find $OPT $ETC -user classifyd -o -perm /o+w ! -type l)" ] || wrong "the account may change the program"
    ls -A $VAR/weights $VAR/weights/imagenet | grep new && wrong "an incomplete package is left"
    nothing_left_over
}

install_over_a_running_one() {
    printf '\n# kept by the operator\ndeadline_ms = 7000\n' >> $ETC/classifyd.toml
    sha256sum $ETC/classifyd.toml > /run/toml.sum
    under_load "$bundle/install.sh" --yes > /run/install 2>&1 || { cat /run/install; wrong "it failed"; }
    tail -n 1 /run/install
    sha256sum --quiet --check /run/toml.sum
    "$bundle/install.sh" --yes --port 8001 > /run/install 2>&1 || { cat /run/install; wrong "it failed"; }
    grep -q '^port = 8001$' $ETC/classifyd.toml && grep -q 'deadline_ms = 7000' $ETC/classifyd.toml
    curl -sf http://127.0.0.1:8001/readyz > /dev/null
    curl -s $URL/readyz > /dev/null && wrong "the old port is still open"
    says '^ok *port .*8001' classifyd doctor
    "$bundle/install.sh" --yes --port 8000 > /run/install 2>&1
    sha256sum --quiet --check /run/toml.sum
    occupy_port 8002
    refused "port 8002" "$bundle/install.sh" --yes --port 8002
    free_port
    verified
}

killed_worker_and_master() {
    local before
    before=$(worker_pid)
    kill -9 "$before"
    verified
    [ "$(worker_pid)" != "$before" ] || wrong "the worker was not replaced"
    before=$(main_pid)
    kill -9 "$before"
    verified
    [ "$(main_pid)" != "$before" ] || wrong "the master was not replaced"
    say "worker and master were replaced"
}

reload_under_load() { under_load systemctl reload classifyd; verified; }

after_the_reboot() {
    verified
    says '^service *active, enabled' classifydctl status
}

full_log_disk() {
    mount -t tmpfs -o size=2m tmpfs /var/log
    mkdir /var/log/journal
    systemctl restart systemd-journald
    dd if=/dev/zero of=/var/log/fill bs=4k 2> /dev/null || true
    verified
    systemctl restart classifyd
    verified
    say "served and restarted with $(df --output=avail -k /var/log | tail -n 1) KiB free in /var/log"
    umount -l /var/log
    systemctl restart systemd-journald
    verified
}

# /mnt/small is a small ext4 file system, which in_container.sh mounts.
full_state_disk() {
    systemctl stop classifyd.socket classifyd
    rm -rf /mnt/small/state && cp -a $VAR/state /mnt/small/state
    mount --bind /mnt/small/state $VAR/state
    systemctl start classifyd.socket classifyd
    verified
    dd if=/dev/zero of=$VAR/state/fill bs=4k 2> /dev/null || true
    say "$(df --output=avail -k $VAR/state | tail -n 1) KiB free in the state folder"
    verified
    kill -9 "$(worker_pid)"
    verified
    systemctl restart classifyd
    verified
    kill -9 "$(main_pid)"
    verified
    says '^failure *disk' classifyd doctor
    rm $VAR/state/fill
    systemctl restart classifyd
    verified
    says '^classifyd_requests_total' curl -s $URL/metrics | head -n 1
    systemctl stop classifyd.socket classifyd
    umount $VAR/state
    systemctl start classifyd.socket classifyd
    verified
}

there_and_back() {
    classifydctl upgrade "$here/9.0-good.tar"
    classifydctl rollback
    classifydctl rollback
}
upgrade_and_rollback_under_load() {
    local before
    before=$(release)
    sha256sum $ETC/classifyd.toml > /run/toml.sum
    under_load there_and_back > /run/upgrade 2>&1 || { cat /run/upgrade; wrong "it failed"; }
    grep answers /run/upgrade
    [ "$(release)" = 9.0-good ] || wrong "$(release) is current"
    sha256sum --quiet --check /run/toml.sum
    nothing_left_over
    classifydctl rollback > /dev/null
    [ "$(release)" = "$before" ] || wrong "$(release) is current"
}

broken_upgrades() {
    local name before
    before=$(release)
    for name in 9.1-broken 9.2-badunit 9.3-blind; do
        refused "was rolled back; $before is running" classifydctl upgrade "$here/$name.tar"
        [ "$(release)" = "$before" ] || wrong "$(release) is current"
        verified
    done
}
broken_upgrades_under_load() { under_load broken_upgrades; nothing_left_over; }

impossible_upgrades() {
    local before
    before=$(release)
    cp "$here/9.0-good.tar" /run/flipped.tar
    printf 'X' | dd of=/run/flipped.tar bs=1 seek=200000000 conv=notrunc status=none
    refused "damaged" classifydctl upgrade /run/flipped.tar
    rm /run/flipped.tar
    head -c 100000000 "$here/9.0-good.tar" > /run/short.tar
    refused "cannot be unpacked" classifydctl upgrade /run/short.tar
    rm /run/short.tar
    nothing_left_over
    # A disk with space for the bundle, and one without, under /opt/classifyd.
    local free
    for free in 900 100; do
        mkdir -p /mnt/opt
        mount -t tmpfs -o size=$(($(du -sm $OPT | cut -f 1) + free))m tmpfs /mnt/opt
        cp -a $OPT/. /mnt/opt/
        mount --bind /mnt/opt $OPT
        refused "MB" classifydctl upgrade "$here/9.0-good.tar"
        nothing_left_over
        verified
        umount -l $OPT
        umount -l /mnt/opt
    done
    [ "$(release)" = "$before" ] || wrong "$(release) is current"
    systemctl restart classifyd
    verified
}

# Write BUNDLE.tar, a copy of 9.0-good that a key has signed and a command has edited before.
signed() {
    local folder=$here/signed/classifyd-$1 key
    key=$(realpath "$2")
    rm -rf "$here/signed" && mkdir "$here/signed"
    tar -C "$here/signed" -xf "$here/9.0-good.tar"
    mv "$here"/signed/classifyd-9.0-good "$folder"
    ( cd "$folder" && sed -i "s/^RELEASE=.*/RELEASE=$1/" RELEASE && eval "${3:-true}"
        openssl pkey -in "$key" -pubout -out publisher.pem
        find . -type f ! -name SHA256SUMS -print0 | xargs -0 sha256sum > SHA256SUMS
        openssl pkeyutl -sign -rawin -inkey "$key" -in SHA256SUMS -out SHA256SUMS.sig )
    pack "$1"
}
pack() { tar -C "$here/signed" -cf "$here/$1.tar" "classifyd-$1"; }
# A refused bundle, the installer of which tells that it ran.
refused_unrun() {
    local wanted=$1 before
    shift
    before=$(release)
    rm -f /run/ran
    refused "$wanted" classifydctl upgrade "$@"
    [ ! -e /run/ran ] || wrong "the installer of a refused bundle ran"
    [ "$(release)" = "$before" ] || wrong "$(release) is current"
    nothing_left_over
}
upgraded() { classifydctl upgrade "$@" > /run/upgrade 2>&1 || { cat /run/upgrade; wrong "no upgrade to $1"; }; }
signed_upgrades() {
    local name mark='sed -i "2i touch /run/ran" install.sh'
    cd /root
    for name in one two; do
        openssl genpkey -algorithm ed25519 -out $name.key
        openssl pkey -in $name.key -pubout -out $name.pem
    done
    # Who can change the bundle can also renew the checksums, but not the signature.
    signed 9.4-signed one.key
    ( cd "$here/signed/classifyd-9.4-signed" && eval "$mark"
        find . -type f ! -name 'SHA256SUMS*' -print0 | xargs -0 sha256sum > SHA256SUMS )
    pack 9.4-signed
    refused_unrun "changed after it was signed" "$here/9.4-signed.tar"
    signed 9.4-signed one.key
    refused_unrun "is signed by another key" "$here/9.4-signed.tar" --key two.pem
    upgraded "$here/9.4-signed.tar"
    grep 'signed by the key' /run/upgrade && grep 'Compare this key' /run/upgrade
    cmp one.pem $ETC/bundle-key.pem
    signed 9.5-other two.key "$mark"
    refused_unrun "is signed by another key" "$here/9.5-other.tar"
    cp "$here/9.0-good.tar" /root/unsigned.tar
    refused_unrun "is not signed" /root/unsigned.tar
    ( cd "$here/signed/classifyd-9.5-other" && eval "$mark" ) && pack 9.5-other
    refused_unrun "is damaged" "$here/9.5-other.tar" --key two.pem
    # A key that the operator names replaces the kept one. And a machine without a wheel of OpenVINO.
    signed 9.5-other two.key "sed -i 's/^\\([0-9.]* [0-9.]*\\) [0-9.]*/\\1 9.99/' PYTHONS"
    upgraded "$here/9.5-other.tar" --key two.pem
    cmp two.pem $ETC/bundle-key.pem
    grep 'warning .*openvino needs glibc 9.99' /run/upgrade
    [ -z "$(ls -d $OPT/9.5-other/venv/lib/python3*/site-packages/openvino 2> /dev/null)" ] || wrong "OpenVINO is installed"
    verified
    upgraded /root/unsigned.tar --unsigned
    [ "$(release)" = 9.0-good ] || wrong "$(release) is current"
    cmp two.pem $ETC/bundle-key.pem
    rm -rf $ETC/bundle-key.pem "$here/signed" "$here"/9.[45]-*.tar /root/unsigned.tar
}

upgrade_interrupted() {
    local before upgrade marker
    before=$(release)
    for marker in "$OPT/9.0-good/venv/bin" "$OPT/9.0-good/.complete"; do
        setsid classifydctl upgrade "$here/9.0-good.tar" > /run/upgrade 2>&1 &
        upgrade=$!
        until [ -e "$marker" ]; do sleep 0.2; done
        sleep 2
        kill -9 -- -$upgrade
        wait $upgrade || true
        verified
        [ "$(release)" = "$before" ] || wrong "$(release) is current"
    done
    sleep 5
    only_the_service
    classifydctl upgrade "$here/9.0-good.tar" > /run/upgrade 2>&1 || { cat /run/upgrade; wrong "no upgrade afterwards"; }
    nothing_left_over
    classifydctl rollback > /dev/null
    say "$before kept serving, and the next upgrade succeeded"
}

upgrade_with_tokens_and_tls() {
    cp $ETC/classifyd.toml /run/toml
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=server -addext "subjectAltName=DNS:$(uname -n)" -keyout $ETC/tls.key -out $ETC/tls.crt 2> /dev/null
    chown root:classifyd $ETC/tls.key && chmod 0640 $ETC/tls.key
    printf 'access_tokens = "on"\ntls_certificate = "%s"\ntls_key = "%s"\n' $ETC/tls.crt $ETC/tls.key >> $ETC/classifyd.toml
    sudo -u classifyd classifyd token add tester > /run/token
    systemctl restart classifyd
    classifydctl verify
    classifydctl upgrade "$here/9.0-good.tar" > /run/upgrade 2>&1 || { cat /run/upgrade; wrong "no upgrade"; }
    classifydctl rollback | tail -n 1
    says '^ok *port' classifyd doctor
    cp /run/toml $ETC/classifyd.toml
    rm $ETC/tls.*
    systemctl restart classifyd
    verified
}

# The steps of a customer in docs/licence.md; the container has no network.
code_of() {
    printf '{"image":"%s"}' "$(base64 -w0 $OPT/current/tests/photos/coffee.jpg)" \
        | curl -s --data-binary @- "$URL/$1/ImageClassification" | grep -o '"error_code":[0-9]*' | cut -d : -f 2 || true
}
within_a_minute() {
    local _
    for _ in $(seq 60); do [ "$(code_of pets)" = "$1" ] && return; sleep 1; done
    wrong "pets answers $(code_of pets), not '$1'"
}
sealed_package() {
    local publisher=/root/publisher
    rm -rf $publisher && mkdir -p $publisher/weights/pets && cd $publisher
    cp -r $VAR/weights/imagenet/1 weights/pets/1
    sed -i 's/"name": "imagenet"/"name": "pets"/' weights/pets/1/manifest.json
    classifyd licence keygen --key publisher.key
    classifyd licence seal weights/pets/1 --key publisher.key --contact "Example <a@example.com>" --weights-dir out
    classifyd package archive pets 1 --weights-dir out -o /tmp/pets-1.tar
    chmod 0644 /tmp/pets-1.tar
    sudo -u classifyd classifyd package install /tmp/pets-1.tar
    within_a_minute 337000
    says '^failure *licence .*pets' classifyd doctor
    refused "is sealed, and" classifyd package verify pets
    classifyd licence fingerprint --output fingerprint.json
    classifyd licence issue fingerprint.json --key publisher.key --licensee "A Customer" --name pets --trial
    install -m 0644 ./*.licence $ETC/licences/
    within_a_minute ""
    classifyd licence check
    classifyd package verify pets
    classifyd predict --package $VAR/weights/pets/1 $OPT/current/tests/photos/coffee.jpg | head -n 2
    says "chosen" classifyd tune pets
    says '^ok *golden .*pets' classifyd doctor
    # Only root and the account of the service may open it.
    refused "Permission denied; use sudo" sudo -u nobody classifyd package verify $VAR/weights/pets/1
    grep -q Traceback /run/refused && wrong "a traceback"
    [ "$(code_of imagenet)" = "" ] || wrong "imagenet is affected"
    systemctl restart classifyd
    verified
    within_a_minute ""
}
sealed_package_after_the_reboot() {
    verified
    within_a_minute ""
    classifyd licence check | head -n 2
    mv $VAR/state/machine.key /run/ && within_a_minute 337000 && mv /run/machine.key $VAR/state/
    within_a_minute ""
    sudo -u classifyd classifyd package remove pets --all
    rm $ETC/licences/*.licence
    verified
}

behind_nginx() {
    mkdir -p /etc/nginx/tls
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=classify.example.com -addext subjectAltName=DNS:classify.example.com \
        -keyout /etc/nginx/tls/classifyd.key -out /etc/nginx/tls/classifyd.crt 2> /dev/null
    cp $OPT/current/deploy/nginx.conf /etc/nginx/conf.d/classifyd.conf
    nginx -t 2> /dev/null && systemctl restart nginx
    printf '{"image":"%s"}' "$(base64 -w0 $OPT/current/tests/photos/coffee.jpg)" \
        | curl -sk --data-binary @- https://127.0.0.1/imagenet/ImageClassification > /run/answer
    grep -q espresso /run/answer || wrong "$(cat /run/answer)"
    says '^ok *proxy' classifyd doctor
    says '^warning *certificate .*nginx.* expires in 1 day' classifyd doctor
    sed -i 's/client_max_body_size 33m/client_max_body_size 8m/' /etc/nginx/conf.d/classifyd.conf
    says '^warning *proxy' classifyd doctor
    rm /etc/nginx/conf.d/classifyd.conf
    systemctl stop nginx
}

doctor_finds() {
    chown -R root: $VAR/state/engines
    says '^failure *permissions .*state_dir' classifyd doctor
    chown -R classifyd: $VAR/state/engines
    chmod 0700 $VAR/weights/imagenet && chown root: $VAR/weights/imagenet
    says '^failure *permissions .*weights_dir' classifyd doctor
    chmod 0755 $VAR/weights/imagenet && chown classifyd: $VAR/weights/imagenet
    touch -d '+2 days' $OPT/current/app/cli/doctor/machine.py
    says '^failure *clock' classifyd doctor
    touch -d '-2 days' $OPT/current/app/cli/doctor/machine.py
    systemctl stop classifyd.socket classifyd
    occupy_port 8000
    says '^failure *port .*no classifyd answers' classifyd doctor
    free_port
    systemctl start classifyd.socket classifyd
    sed -i 's/^deadline_ms.*/deadline_ms = "soon"/' $ETC/classifyd.toml
    says '^failure *configuration .*deadline_ms' classifyd doctor
    sed -i 's/^deadline_ms.*/deadline_ms = 7000/' $ETC/classifyd.toml
    verified
    # A tune run by root leaves the files of the state folder to the service.
    classifyd tune > /run/tune
    [ -z "$(find $VAR/state -user root)" ] || wrong "$(find $VAR/state -user root) is root's"
}

doctor_on_a_healthy_server() {
    classifyd doctor --bundle /run/support.tar.gz | tee /run/doctor
    grep -q '^failure' /run/doctor && wrong "a failure"
    grep -q '^ok *golden .*running server' /run/doctor || wrong "no golden check"
    tar -tzf /run/support.tar.gz
}

uninstall_keeps_the_data() {
    classifydctl uninstall
    ls -d $ETC/classifyd.toml $VAR/weights/imagenet/1 $VAR/state/log_id_block
    are_gone $OPT /usr/local/bin/classifyd* /etc/systemd/system/classifyd* /run/classifyd \
        /usr/local/share/*/*/*classifyd*
    systemctl list-units --all 'classifyd*' | grep classifyd && wrong "a unit is left"
    says '^running' systemctl is-system-running
    "$bundle/install.sh" --yes | tail -n 1
    grep -q 'deadline_ms = 7000' $ETC/classifyd.toml || wrong "the settings were not kept"
}

uninstall_and_purge() {
    classifydctl uninstall --purge
    nothing_installed
    [ ! -e $OPT ] || wrong "$OPT is left"
    systemctl list-units --all 'classifyd*' | grep classifyd && wrong "a unit is left"
    if find / -xdev -user 999 ! -path '/proc/*' 2> /dev/null | grep classifyd; then wrong "files are left"; fi
    pgrep -a -f gunicorn && wrong "a process is left"
    true
}

"$1"
