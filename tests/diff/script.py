# SPDX-License-Identifier: Apache-2.0
"""Gives the commands of a script under tests/data/mvcc to a server of the etcd API.

    script.py URL FILE

The server is empty. What it answers, as tests/unit/mvcc_script_test.c would print it,
must be what the script expects. A block of commands with one that the API has no
request for is carried out as far as it goes and not compared. The last line tells how
many blocks were.
"""
import base64
import http.client
import json
import sys
import urllib.parse

NEITHER = {'find', 'revisions', 'store', 'compact-begin', 'compact-step', 'watch', 'next',
           'unwatch', 'ready', 'synced', 'leased', 'record-put', 'record-delete',
           'record-get', 'record-each'}
FLAGS = {'keys_only', 'count_only', 'hold'}
NAMES = {'limit': 'limit', 'revision': 'revision', 'min_mod': 'min_mod_revision',
         'max_mod': 'max_mod_revision', 'min_create': 'min_create_revision',
         'max_create': 'max_create_revision'}
ERRORS = {'etcdserver: mvcc: required revision has been compacted': 'compacted',
          'etcdserver: mvcc: required revision is a future revision': 'future'}


def encoded(word):
    raw = word.encode('latin-1').replace(b'\\0', b'\\x00')
    raw = raw.decode('unicode_escape').encode('latin-1')
    return base64.b64encode(raw).decode()


def shown(text):
    return ''.join('\\0' if c == 0 else chr(c) if 0x20 < c < 0x7f else f'\\x{c:02x}'
                   for c in base64.b64decode(text or ''))


def show_kv(kv):
    lease = f" lease {kv['lease']}" if 'lease' in kv else ''
    return (f"{shown(kv.get('key'))}={shown(kv.get('value'))} create {kv['create_revision']}"
            f" mod {kv['mod_revision']} version {kv['version']}{lease}")


def revision_of(answer):
    return answer['header']['revision']


class Server:
    """Carries out commands; self.out is what they print."""

    def __init__(self, url):
        where = urllib.parse.urlparse(url)
        self.http = http.client.HTTPConnection(where.hostname, where.port, timeout=20)
        self.out, self.txn, self.leases = [], None, set()

    def ask(self, path, request):
        self.http.request('POST', '/v3/' + path, json.dumps(request))
        answer = json.loads(self.http.getresponse().read())
        if 'message' in answer and 'code' in answer:
            return ERRORS.get(answer['message'], answer['message'])
        return answer

    def single(self, path, kind, request, show):
        """Inside a transaction, what is asked now is printed at its end."""
        if self.txn is not None:
            self.txn.append(({'request_' + kind: request}, 'response_' + kind, show))
            return
        answer = self.ask(path, request)
        if isinstance(answer, str):
            self.out.append(answer)
        else:
            show(answer)
            if kind != 'range':
                self.out.append(f'revision {revision_of(answer)}')

    def begin(self, _):
        self.txn = []

    def end(self, _):
        operations, self.txn = self.txn, None
        answer = self.ask('kv/txn', {'success': [op for op, _, _ in operations]})
        if isinstance(answer, str):
            self.out.append(answer)
            return
        for (_, name, show), response in zip(operations, answer.get('responses', [])):
            show(response[name])
        self.out.append(f'revision {revision_of(answer)}')

    def put(self, words):
        options = dict(w.split('=', 1) for w in words[1:] if w.startswith('lease='))
        value = [w for w in words[1:] if not w.startswith('lease=')]
        lease = options.get('lease', '0')
        if lease not in self.leases | {'0'}:
            self.ask('lease/grant', {'ID': lease, 'TTL': '1000000'})
            self.leases.add(lease)
        self.single('kv/put', 'put', {'key': encoded(words[0]), 'lease': lease,
                                      'value': encoded(value[0]) if value else ''},
                    lambda answer: None)

    def delete(self, words):
        def show(answer):
            keys = [' ' + shown(kv['key']) for kv in answer.get('prev_kvs', [])]
            self.out.append(f"deleted {answer.get('deleted', 0)}{''.join(keys)}")

        self.single('kv/deleterange', 'delete_range',
                    {'key': encoded(words[0]), 'prev_kv': True,
                     'range_end': encoded(words[1]) if len(words) > 1 else ''}, show)

    def get(self, words):
        request = {'key': encoded(words[0])}
        for w in words[1:]:
            name, equals, value = w.partition('=')
            if name in ('order', 'target'):
                request['sort_' + name] = value.upper()
            elif name in NAMES and equals:
                request[NAMES[name]] = value
            elif name in FLAGS:
                request[name] = True
            else:
                request['range_end'] = encoded(w)
        request.pop('hold', None)

        def show(answer):
            self.out.extend(show_kv(kv) for kv in answer.get('kvs', []))
            more = ' more' if answer.get('more') else ''
            self.out.append(f"count {answer.get('count', 0)}{more}")

        self.single('kv/range', 'range', request, show)

    def compact(self, words):
        answer = self.ask('kv/compaction', {'revision': words[0], 'physical': True})
        self.out.append(answer if isinstance(answer, str) else 'ok')

    def hash(self, words):
        answer = self.ask('maintenance/hashkv', {'revision': words[0] if words else '0'})
        if isinstance(answer, str):
            self.out.append(answer)
            return
        self.out.append(f"hash {answer.get('hash', 0)} of {answer['hash_revision']}"
                        f" compacted {answer['compact_revision']}")

    def restart(self, _):
        """A server that is restarted says the same; tests/diff/run.sh shows that."""


def blocks(path):
    """The commands and the expected lines of each block, and where it begins."""
    commands, expected, first = [], None, 0
    for number, line in enumerate(open(path, encoding='latin-1').read().split('\n') + [''], 1):
        if expected is not None and line:
            expected.append(line)
        elif expected is not None:
            yield first, commands, expected
            commands, expected = [], None
        elif line == '----':
            expected = []
        elif line and not line.startswith('#'):
            first = first if commands else number
            commands.append(line.split())


def main(url, path):
    server, passed, failed = Server(url), 0, 0
    for first, commands, expected in blocks(path):
        server.out = []
        for name, *words in commands:
            if name not in NEITHER:
                getattr(server, name)(words)
        if any(name in NEITHER for name, *_ in commands):
            continue
        if server.out == expected:
            passed += 1
            continue
        failed += 1
        print(f'{path}:{first}: the server answers')
        print('\n'.join('  ' + line for line in server.out))
    print(f'{passed} passed, {failed} failed')
    return failed > 0


sys.exit(main(sys.argv[1], sys.argv[2]))
