// SPDX-License-Identifier: Apache-2.0
/* What the members of a script's group do with their updates, and how that is printed. */
#include "include/wire.h"
#include "tests/sim/script_group.h"

struct node nodes[NODES];
size_t n_nodes;
struct raft_message bag[4096];
size_t n_bag;
int indent;

/* A line, or the lines of one message. */
void print_lines(const char *before, const char *text)
{
	while (*text) {
		size_t len = strcspn(text, "\n");

		script_print(now, "%*s%s%.*s\n", indent, "", before, (int)len, text);
		text += len;
		text += *text == '\n';
		before = "";
	}
}

static void print_messages(const struct raft_message *m, size_t n)
{
	char text[2000];

	for (size_t i = 0; i < n; i++) {
		raft_message_to_text(&m[i], text, sizeof(text));
		print_lines("", text);
	}
}

static void print_entries(const char *title, const struct raft_entry *e, size_t n)
{
	char text[1000];

	if (n)
		print_lines(title, "\n");
	for (size_t i = 0; i < n; i++) {
		raft_entry_to_text(&e[i], text, sizeof(text));
		print_lines("", text);
	}
}

/* "> 1 handling Ready", with what follows below it. */
void print_head(uint64_t id, const char *what)
{
	script_print(now, "> %llu %s\n", (unsigned long long)id, what);
	indent = 2;
}

/* Role and leader where they have changed; that the term has is seen below. */
static void print_role(struct node *node)
{
	struct raft_status st;
	char text[200];

	raft_status(node->raft, &st);
	snprintf(text, sizeof(text), "Lead:%llu State:%s", (unsigned long long)st.leader,
		 raft_role_to_text(st.role));
	print_lines("", st.role != node->role || st.leader != node->leader ? text : "");
	node->role = st.role;
	node->leader = st.leader;
}

/* etcd-io/raft leaves to the storage to sync a snapshot, and speaks of the log here. */
static bool log_must_sync(struct node *node, const struct raft_update *up)
{
	struct raft_hard_state *old = &node->hard_state;
	bool changed = up->hard_state_changed && (up->hard_state.term != old->term ||
						  up->hard_state.vote != old->vote);

	SCRIPT_NEED(up->must_sync || !(up->n_entries || up->snapshot || changed));
	if (up->hard_state_changed)
		*old = up->hard_state;
	return up->n_entries || changed;
}

static void print_snapshot(const struct raft_snapshot_meta *s)
{
	const struct raft_message m = {
		.type = RAFT_MSG_SNAP, .snapshot = (struct raft_snapshot_meta *)s,
	};
	char text[2000], *p;

	raft_message_to_text(&m, text, sizeof(text));
	p = strstr(text, "Snapshot: ") + strlen("Snapshot: ");
	print_lines("Snapshot ", p);
}

/* An update, as etcd-io/raft prints a Ready. */
static void print_ready(uint64_t id, const struct raft_update *up)
{
	const struct raft_hard_state *hs = &up->hard_state;
	char text[200];

	print_lines("Ready MustSync=", log_must_sync(&nodes[id], up) ? "true:" : "false:");
	print_role(&nodes[id]);
	snprintf(text, sizeof(text), "HardState Term:%llu", (unsigned long long)hs->term);
	if (hs->vote)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), " Vote:%llu",
			 (unsigned long long)hs->vote);
	snprintf(text + strlen(text), sizeof(text) - strlen(text), " Commit:%llu",
		 (unsigned long long)hs->commit);
	print_lines("", up->hard_state_changed ? text : "");
	if (up->snapshot)
		print_snapshot(up->snapshot);
	print_entries("Entries:", up->entries, up->n_entries);
	print_entries("CommittedEntries:", up->committed, up->n_committed);
	for (size_t i = 0; i < up->n_reads; i++) {
		snprintf(text, sizeof(text), "Read:%llu Index:%llu",
			 (unsigned long long)up->reads[i].id,
			 (unsigned long long)up->reads[i].index);
		print_lines("", text);
	}
	if (up->n_messages || (up->n_after_store && !nodes[id].async))
		print_lines("Messages:", "\n");
	print_messages(up->messages, up->n_messages);
	if (!nodes[id].async)
		print_messages(up->after_store, up->n_after_store);
}

int step(uint64_t id, const struct raft_event *ev)
{
	int ret;

	SCRIPT_NEED(id && id <= n_nodes);
	ret = raft_step(nodes[id].raft, ev, &nodes[id].up);
	SCRIPT_NEED(ret >= 0);
	raft_check(nodes[id].raft);
	return ret;
}

static enum raft_conf_transition decode(const struct raft_entry *e, struct raft_conf_single *out,
					size_t *n)
{
	struct slice s = e->payload ? blob_slice(e->payload) : slice_of(NULL, 0);
	uint64_t transition = 0;
	struct wire_field f, g;
	bool v1 = e->type == RAFT_ENTRY_CONF_CHANGE;

	*n = v1;
	out[0] = (struct raft_conf_single){ 0 };
	while (wire_next(&s, &f) == 1) {
		if (v1 && f.number == 2)
			out[0].type = (enum raft_conf_change_type)f.value;
		else if (v1 && f.number == 3)
			out[0].node_id = f.value;
		else if (f.number == 1)
			transition = f.value;
		if (v1 || f.number != 2)
			continue;
		out[*n] = (struct raft_conf_single){ 0 };
		while (wire_next(&f.bytes, &g) == 1) {
			if (g.number == 1)
				out[*n].type = (enum raft_conf_change_type)g.value;
			else
				out[*n].node_id = g.value;
		}
		++*n;
	}
	return v1 ? RAFT_CONF_AUTO : (enum raft_conf_transition)transition;
}

static void apply(uint64_t id, const struct raft_entry *e)
{
	struct raft_conf_single singles[16];
	struct raft_conf_change change = { .changes = singles };
	struct raft_event ev = {
		.type = RAFT_CONF_APPLIED, .index = e->index, .conf_change = &change,
	};

	if (e->type == RAFT_ENTRY_NORMAL)
		return;
	change.transition = decode(e, singles, &change.n_changes);
	step(id, &ev);
}

static void post(const struct raft_message *m, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		see(false, "", &m[i]);
		SCRIPT_NEED(n_bag < ARRAY_SIZE(bag));
		bag[n_bag++] = m[i];
	}
}

/* The event that says that @up is durable, or none of type RAFT_TICK. */
static struct raft_event stored_event(const struct raft_update *up)
{
	struct raft_event ev = { .type = RAFT_TICK };

	if (up->snapshot) {
		ev.index = up->snapshot->index;
		ev.term = up->snapshot->term;
	}
	if (up->n_entries) {
		ev.index = up->entries[up->n_entries - 1].index;
		ev.term = up->entries[up->n_entries - 1].term;
	}
	if (ev.index)
		ev.type = RAFT_STORED;
	return ev;
}

/* --- disks ----------------------------------------------------------------------------- */

static void disk_drop(struct disk *disk, size_t keep)
{
	while (disk->n_entries > keep)
		blob_put(disk->entries[--disk->n_entries].payload);
}

void disk_release(struct disk *disk)
{
	disk_drop(disk, 0);
	free(disk->entries);
	raft_conf_state_release(&disk->conf);
	*disk = (struct disk){ 0 };
}

static void disk_write(struct disk *disk, const struct raft_update *up)
{
	size_t keep;

	if (up->snapshot) {
		disk_drop(disk, 0);
		disk->base = disk->applied = up->snapshot->index;
		disk->base_term = up->snapshot->term;
		raft_conf_state_release(&disk->conf);
		SCRIPT_NEED(!conf_copy(&up->snapshot->conf, &disk->conf));
	}
	if (up->hard_state_changed)
		disk->hard_state = up->hard_state;
	if (!up->n_entries)
		return;
	SCRIPT_NEED(up->entries[0].index > disk->base);
	keep = up->entries[0].index - disk->base - 1;
	SCRIPT_NEED(keep <= disk->n_entries);
	disk_drop(disk, keep);
	disk->entries = realloc(disk->entries, (keep + up->n_entries) * sizeof(*disk->entries));
	SCRIPT_NEED(disk->entries);
	for (size_t i = 0; i < up->n_entries; i++) {
		disk->entries[keep + i] = up->entries[i];
		if (up->entries[i].payload)
			blob_get(up->entries[i].payload);
	}
	disk->n_entries = keep + up->n_entries;
}

/* Forgets what its raft has. */
void disk_compact(uint64_t id)
{
	struct disk *disk = &nodes[id].disk;
	struct raft_status st;
	size_t n;

	raft_status(nodes[id].raft, &st);
	n = st.first_index - 1 - disk->base;
	SCRIPT_NEED(n <= disk->n_entries);
	if (!n)
		return;
	disk->base += n;
	disk->base_term = disk->entries[n - 1].term;
	for (size_t i = 0; i < n; i++)
		blob_put(disk->entries[i].payload);
	disk->n_entries -= n;
	memmove(disk->entries, disk->entries + n, disk->n_entries * sizeof(*disk->entries));
}

void node_start(uint64_t id)
{
	struct node *node = &nodes[id];
	struct raft_config *config = &node->config;
	const struct disk *disk = &node->disk;
	const char *why = "";

	config->snapshot.index = disk->base;
	config->snapshot.term = disk->base_term;
	config->snapshot.conf = disk->conf;
	config->hard_state = disk->hard_state;
	config->applied = disk->applied;
	config->entries = disk->entries;
	config->n_entries = disk->n_entries;
	raft_update_init(&node->up);
	SCRIPT_NEED(!raft_new(config, &node->raft, &why));
	node->role = RAFT_FOLLOWER;
	node->leader = 0;
	node->hard_state = disk->hard_state;
}

void node_stop(uint64_t id)
{
	struct node *node = &nodes[id];
	size_t kept = 0;

	for (size_t i = 0; i < n_bag; i++)
		if (bag[i].from != id || bag[i].to != id)
			bag[kept++] = bag[i];
	n_bag = kept;
	while (node->n_store)
		raft_update_release(&node->store[--node->n_store].up);
	while (node->n_apply)
		raft_update_release(&node->apply[--node->n_apply].up);
	raft_update_release(&node->up);
	raft_free(node->raft);
	node->raft = NULL;
}

/* --- updates --------------------------------------------------------------------------- */

static void apply_all(uint64_t id, struct raft_update *up, struct raft_event *done)
{
	struct disk *disk = &nodes[id].disk;

	for (size_t i = 0; i < up->n_committed; i++) {
		SCRIPT_NEED(up->committed[i].index == disk->applied + 1);
		apply(id, &up->committed[i]);
		disk->applied++;
		raft_conf_state_release(&disk->conf);
		SCRIPT_NEED(!raft_conf_state(nodes[id].raft, &disk->conf));
		*done = (struct raft_event){
			.type = RAFT_APPLIED, .index = up->committed[i].index,
		};
	}
}

static void process_sync(uint64_t id, struct raft_update *up)
{
	struct raft_event stored = stored_event(up), applied = { .type = RAFT_TICK };

	disk_write(&nodes[id].disk, up);
	apply_all(id, up, &applied);
	post(up->messages, up->n_messages);
	post(up->after_store, up->n_after_store);
	up->n_messages = up->n_after_store = 0;
	raft_update_release(up);
	if (stored.type != RAFT_TICK)
		step(id, &stored);
	if (applied.type != RAFT_TICK)
		step(id, &applied);
}

/* Sends what may be sent and leaves the rest to process_store() and process_apply(). */
static void process_async(uint64_t id, struct raft_update *up)
{
	struct node *node = &nodes[id];
	struct work *w;

	post(up->messages, up->n_messages);
	up->n_messages = 0;
	if (up->n_committed) {
		w = &node->apply[node->n_apply++];
		SCRIPT_NEED(node->n_apply < ARRAY_SIZE(node->apply));
		raft_update_init(&w->up);
		w->up.committed = up->committed;
		w->up.n_committed = up->n_committed;
		up->committed = NULL;
		up->n_committed = 0;
	}
	if (!up->n_entries && !up->n_after_store && !up->snapshot && !up->hard_state_changed) {
		raft_update_release(up);
		return;
	}
	w = &node->store[node->n_store++];
	SCRIPT_NEED(node->n_store < ARRAY_SIZE(node->store));
	w->up = *up;
}

void process_ready(uint64_t id)
{
	struct raft_update up = nodes[id].up;

	print_ready(id, &up);
	raft_update_init(&nodes[id].up);
	if (nodes[id].async)
		process_async(id, &up);
	else
		process_sync(id, &up);
}

static void post_event(uint64_t id, const struct raft_event *ev)
{
	SCRIPT_NEED(n_bag < ARRAY_SIZE(bag));
	if (ev->type != RAFT_TICK)
		bag[n_bag++] = (struct raft_message){
			.type = FROM_STORAGE(ev->type), .to = id, .from = id,
			.index = ev->index, .term = ev->term,
		};
}

bool process_store(uint64_t id)
{
	struct node *node = &nodes[id];
	struct work w = node->store[0];
	struct raft_event done;

	if (!node->n_store)
		return false;
	memmove(node->store, node->store + 1, --node->n_store * sizeof(w));
	done = stored_event(&w.up);
	disk_write(&node->disk, &w.up);
	print_messages(w.up.after_store, w.up.n_after_store);
	post(w.up.after_store, w.up.n_after_store);
	w.up.n_after_store = 0;
	post_event(id, &done);
	raft_update_release(&w.up);
	return true;
}

bool process_apply(uint64_t id)
{
	struct node *node = &nodes[id];
	struct work w = node->apply[0];
	struct raft_event done = { .type = RAFT_TICK };

	if (!node->n_apply)
		return false;
	memmove(node->apply, node->apply + 1, --node->n_apply * sizeof(w));
	print_entries("Applied:", w.up.committed, w.up.n_committed);
	apply_all(id, &w.up, &done);
	post_event(id, &done);
	raft_update_release(&w.up);
	return true;
}

void message_free(struct raft_message *m)
{
	struct raft_message *heap = malloc(sizeof(*heap));

	SCRIPT_NEED(heap);
	*heap = *m;
	raft_messages_free(heap, 1);
}
