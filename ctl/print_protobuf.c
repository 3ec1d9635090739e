// SPDX-License-Identifier: Apache-2.0
/* --write-out=protobuf: the bytes of the message. */
#include "ctl/print.h"

static void protobuf_answer(struct ctl *ctl, const void *answer)
{
	struct blob *blob = pb_pack_blob(answer);

	if (!blob) {
		fputs("kvctl: out of memory\n", ctl->err);
		return;
	}
	fwrite(blob->data, 1, blob->len, ctl->out);
	blob_put(blob);
}

/* Without what concerns the stream alone. */
static void protobuf_watch(struct ctl *ctl, const void *answer)
{
	Etcdserverpb__WatchResponse response = *(const Etcdserverpb__WatchResponse *)answer;

	response.watch_id = 0;
	response.fragment = false;
	response.cancel_reason = (char *)protobuf_c_empty_string;
	protobuf_answer(ctl, &response);
}

static void protobuf_revoke(struct ctl *ctl, const void *answer)
{
	const struct show_revoke *revoke = answer;

	protobuf_answer(ctl, revoke->response);
}

const struct printer printer_protobuf = {
	.name = "protobuf",
	.show = {
		[SHOW_PUT] = protobuf_answer,
		[SHOW_GET] = protobuf_answer,
		[SHOW_DEL] = protobuf_answer,
		[SHOW_TXN] = protobuf_answer,
		[SHOW_WATCH] = protobuf_watch,
		[SHOW_REVOKE] = protobuf_revoke,
		[SHOW_MEMBERS] = protobuf_answer,
		[SHOW_ALARMS] = protobuf_answer,
	},
};
