# SPDX-License-Identifier: Apache-2.0
"""Python's etcd3 client against the server at HOST PORT: what its users do."""

import sys
import threading

import etcd3

count = {True: 0, False: 0}


def check(title, good, detail=""):
    count[bool(good)] += 1
    print("%s %d - %s" % ("ok" if good else "not ok", sum(count.values()), title))
    if not good:
        print("#   got: %r" % (detail,))


def same(title, want, have):
    check(title, want == have, have)


def values(found):
    return [(m.key, v) for v, m in found]


def keys_and_values(c):
    c.put("a", "1")
    value, meta = c.get("a")
    same("put, get", b"1", value)
    same("the key comes with it", b"a", meta.key)
    same("get of nothing", (None, None), c.get("none"))
    c.put("b/1", "x")
    c.put("b/2", "y")
    c.put("b/3", "z")
    same("by prefix", [(b"b/1", b"x"), (b"b/2", b"y"), (b"b/3", b"z")], values(c.get_prefix("b/")))
    same("backwards", [b"z", b"y", b"x"],
         [v for v, _ in c.get_prefix("b/", sort_order="descend", sort_target="key")])
    same("a range", [(b"b/1", b"x"), (b"b/2", b"y")], values(c.get_range("b/1", "b/3")))
    check("delete", c.delete("a"))
    check("delete again", not c.delete("a"))
    same("delete by prefix", 3, c.delete_prefix("b/").deleted)
    check("put if it is not there", c.put_if_not_exists("c", "1"))
    check("and then it is", not c.put_if_not_exists("c", "2"))
    check("replace", c.replace("c", "1", "3"))
    check("replace of another value", not c.replace("c", "1", "4"))
    same("its value", b"3", c.get("c")[0])


def transactions(c):
    c.put("t", "on")
    good, answers = c.transaction(
        compare=[c.transactions.value("t") == "on", c.transactions.version("t") > 0],
        success=[c.transactions.put("t", "off"), c.transactions.get("t")],
        failure=[c.transactions.delete("t")])
    check("a transaction that succeeds", good)
    same("reads what it wrote", b"off", answers[1][0][0])
    good, _ = c.transaction(compare=[c.transactions.create("t") == 0],
                            success=[], failure=[c.transactions.delete("t")])
    check("a transaction that fails", not good)
    same("does what it must", None, c.get("t")[0])


def leases(c):
    lease = c.lease(1000)
    c.put("l", "1", lease=lease)
    same("granted", 1000, lease.granted_ttl)
    check("some of it is left", 990 <= lease.remaining_ttl <= 1000, lease.remaining_ttl)
    same("its keys", [b"l"], list(lease.keys))
    same("refreshed", 1000, lease.refresh()[0].TTL)
    lease.revoke()
    same("its key goes with it", None, c.get("l")[0])


def watches(c):
    seen, done = [], threading.Event()

    def see(response):
        for event in response.events:
            seen.append((type(event).__name__, event.key, event.value))
        if len(seen) >= 3:
            done.set()

    watch = c.add_watch_prefix_callback("w/", see)
    c.put("w/1", "a")
    c.put("w/2", "b")
    c.delete("w/1")
    done.wait(10)
    c.cancel_watch(watch)
    same("a watch", [("PutEvent", b"w/1", b"a"), ("PutEvent", b"w/2", b"b"),
                     ("DeleteEvent", b"w/1", b"")], seen)
    events, cancel = c.watch("w/3", start_revision=1)
    c.put("w/3", "c")
    same("a watch that iterates", b"c", next(events).value)
    cancel()


def locks(c):
    one, two = c.lock("lock", ttl=60), c.lock("lock", ttl=60)
    check("a lock is taken", one.acquire(timeout=5))
    check("it is held", one.is_acquired())
    check("nobody else gets it", not two.acquire(timeout=0))
    check("it is released", one.release())
    check("now the other gets it", two.acquire(timeout=5))
    check("and releases it", two.release())


def main():
    c = etcd3.client(host=sys.argv[1], port=int(sys.argv[2]), timeout=10)
    for part in (keys_and_values, transactions, leases, watches, locks):
        try:
            part(c)
        except Exception as error:  # a part that breaks off has failed
            check(part.__name__, False, error)
    print("%d passed, %d failed" % (count[True], count[False]))
    return 1 if count[False] else 0


sys.exit(main())
