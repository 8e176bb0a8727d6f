ln -sf python3 /usr/bin/python
# Compiled here, once: a container's start would do it each time (1 s).
python3 -m compileall -q /usr/lib/python3 /usr/lib/python3.* > /dev/null 2>&1 || true
