# docker-py as people's scripts use it. Prints "ok" at the end.
import io
import sys
import tarfile
import threading
import time

import docker

c = docker.from_env(timeout=60)
print('docker-py', docker.__version__, 'api', c.api._version if hasattr(c.api, '_version') else '')
assert c.ping()
assert c.version()['ApiVersion']
assert c.info()['DockerRootDir']

c.images.pull('busybox', tag='latest')
assert any('busybox:latest' in i.tags for i in c.images.list())

# A network with a pool of its own, and fixed addresses.
pool = docker.types.IPAMPool(subnet='10.61.0.0/24', gateway='10.61.0.254', iprange='10.61.0.128/25')
net = c.networks.create('py-net', driver='bridge', ipam=docker.types.IPAMConfig(pool_configs=[pool]),
                        options={'com.docker.network.driver.mtu': '1400'}, labels={'who': 'py'}, internal=False)
assert [n.name for n in c.networks.list(filters={'label': 'who=py'})] == ['py-net']
assert c.networks.list(names=['py-net'])[0].attrs['IPAM']['Config'][0]['Gateway'] == '10.61.0.254'

seen = []
events = c.events(decode=True, filters={'type': ['container', 'network']})
threading.Thread(target=lambda: [seen.append(e) for e in events], daemon=True).start()
time.sleep(0.2)

one = c.containers.run('busybox', ['sh', '-c', 'echo said; exec netprobe serve tcp/:9000'], name='py-one', detach=True, network='py-net',
                       ports={'9000/tcp': ('127.0.0.1', 9000), '9000/udp': None}, environment={'A': 'b'}, labels={'k': 'v'},
                       mem_limit='64m', restart_policy={'Name': 'on-failure', 'MaximumRetryCount': 1}, tmpfs={'/scratch': 'size=1m'},
                       volumes={'py-volume': {'bind': '/data', 'mode': 'rw'}}, extra_hosts={'other': '192.0.2.7'}, dns=['192.0.2.53'])
one.reload()
assert one.status == 'running', one.status
assert one.ports['9000/tcp'] == [{'HostIp': '127.0.0.1', 'HostPort': '9000'}], one.ports
addr = one.attrs['NetworkSettings']['Networks']['py-net']['IPAddress']
assert addr.startswith('10.61.0.'), addr
assert int(addr.rsplit('.', 1)[1]) >= 128, addr

code, out = one.exec_run(['sh', '-c', 'echo $A; exit 3'])
assert (code, out) == (3, b'b\n'), (code, out)
code, (stdout, stderr) = one.exec_run(['sh', '-c', 'echo o; echo e >&2'], demux=True)
assert (stdout, stderr) == (b'o\n', b'e\n'), (stdout, stderr)
assert b'said' in one.logs()
assert next(one.logs(stream=True, follow=True)).strip() == b'said'
assert one.top()['Processes']
stats = one.stats(stream=False)
assert stats['memory_stats'] is not None and 'eth0' in stats['networks'], stats.get('networks')

# Files in and out.
data = io.BytesIO()
with tarfile.open(fileobj=data, mode='w') as t:
    i = tarfile.TarInfo('hello')
    i.size = 5
    t.addfile(i, io.BytesIO(b'world'))
assert one.put_archive('/tmp', data.getvalue())
bits, stat = one.get_archive('/tmp/hello')
assert stat['size'] == 5
assert tarfile.open(fileobj=io.BytesIO(b''.join(bits))).extractfile('hello').read() == b'world'
assert any(d['Path'] == '/tmp/hello' for d in one.diff())

# connect with everything.
other = c.networks.create('py-two', ipam=docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet='10.62.0.0/24')]))
other.connect(one, aliases=['uno'], ipv4_address='10.62.0.77')
one.reload()
e = one.attrs['NetworkSettings']['Networks']['py-two']
assert e['IPAddress'] == '10.62.0.77' and 'uno' in e['Aliases'], e
other.reload()
assert [x.name for x in other.containers] == ['py-one']
try:
    other.remove()
    sys.exit('a network in use was removed')
except docker.errors.APIError as x:
    assert 'has active endpoints' in str(x), x
other.disconnect(one)
other.remove()

# Low level, as docker-compose 1.29 does it.
low = c.api
made = low.create_container('busybox', ['sleep', '100'], name='py-low', labels=['l'],
                            networking_config=low.create_networking_config({'py-net': low.create_endpoint_config(
                                aliases=['low'], ipv4_address='10.61.0.9', links={'py-one': 'friend'})}),
                            host_config=low.create_host_config(network_mode='py-net', port_bindings={80: 8099}, init=True))
low.start(made['Id'])
assert low.inspect_container('py-low')['NetworkSettings']['Networks']['py-net']['IPAddress'] == '10.61.0.9'
assert low.port('py-low', 80)[0]['HostPort'] == '8099'

# Health.
h = c.containers.run('busybox', ['sleep', '100'], name='py-health', detach=True,
                     healthcheck={'test': ['CMD', 'true'], 'interval': 200 * 1000 * 1000})
for _ in range(100):
    h.reload()
    if h.attrs['State'].get('Health', {}).get('Status') == 'healthy':
        break
    time.sleep(0.1)
else:
    sys.exit('never healthy: %s' % h.attrs['State'])

# Attached, with input.
s = c.containers.create('busybox', ['cat'], stdin_open=True, name='py-cat')
sock = s.attach_socket(params={'stdin': 1, 'stream': 1})
s.start()
sock._sock.send(b'through\n')
sock._sock.close()
for _ in range(50):
    if b'through' in s.logs():
        break
    time.sleep(0.1)
else:
    sys.exit('stdin did not arrive: %r' % s.logs())

try:
    c.containers.run('busybox', ['sh', '-c', 'exit 4'], remove=True)
    sys.exit('exit code 4 is no error')
except docker.errors.ContainerError as x:
    assert x.exit_status == 4
try:
    c.containers.get('nosuch')
    sys.exit('nosuch is there')
except docker.errors.NotFound:
    pass
try:
    c.networks.create('py-net', check_duplicate=True)
    sys.exit('a second py-net')
except docker.errors.APIError as x:
    assert x.status_code == 409, x

image = one.commit(repository='py-image', tag='v1')
assert b'world' in c.containers.run('py-image:v1', ['cat', '/tmp/hello'], remove=True)
blob = b''.join(image.save(named=True))
c.images.remove('py-image:v1')
assert 'py-image:v1' in c.images.load(blob)[0].tags
c.images.remove('py-image:v1')
assert 'LayersSize' in c.df()

for x in c.containers.list(all=True):
    x.remove(force=True, v=True)
pruned = c.networks.prune()
assert 'py-net' in pruned['NetworksDeleted'], pruned
c.volumes.get('py-volume').remove()
time.sleep(0.3)
said = {(e['Type'], e['Action'].split(':')[0]) for e in seen}
for want in [('container', 'create'), ('container', 'start'), ('container', 'die'), ('container', 'destroy'),
             ('network', 'connect'), ('network', 'disconnect'), ('network', 'create'), ('network', 'destroy')]:
    assert want in said, (want, said)
print('ok')
