// A SCIM 2.0 application that keeps its users and groups in memory: scimmy does the protocol, this file is the application.
// `node server.mjs TOKEN [no-patch]` listens on a free port of the loopback and prints its address; with no-patch it knows
// nothing but PUT, and says so. Beside SCIM it answers, for tests: GET /journal, every change that had an effect;
// POST /throttle?n=N, the next N requests are answered 429; POST /owner?id=ID, whose token it is.
import crypto from "node:crypto";
import express from "express";
import SCIMMY from "scimmy";
import SCIMMYRouters from "scimmy-routers";

const [token, ...options] = process.argv.slice(2);
const noPatch = options.includes("no-patch");
const kinds = { User: new Map(), Group: new Map() };
const journal = [];
let throttled = 0, owner;

function record(op, user, group) {
    journal.push({ op, id: user.id, login: user.userName, ...(group ? { group: group.displayName } : {}) });
}

// changed writes down what a write to a user did.
function changed(before, after) {
    if (!before) record("create", after);
    const was = before?.active === true, is = after.active === true;
    if (is && !was) record("enable", after);
    if (was && !is) record("disable", after);
}

// moved writes down who came into a group and who left it.
function moved(before, after) {
    const ids = (group) => new Set((group?.members ?? []).map((member) => member.value));
    const was = ids(before), is = ids(after);
    for (const id of is) if (!was.has(id)) record("grant", kinds.User.get(id) ?? { id }, after);
    for (const id of was) if (!is.has(id)) record("revoke", kinds.User.get(id) ?? { id }, after);
}

function declare(kind, { unique, written, removed }) {
    const all = kinds[kind];
    const missing = (id) => new SCIMMY.Types.Error(404, null, `Resource ${id} not found`);
    SCIMMY.Resources.declare(SCIMMY.Resources[kind])
        .ingress((resource, data) => {
            const before = all.get(resource.id);
            if (resource.id && !before) throw missing(resource.id);
            const instance = JSON.parse(JSON.stringify(data));
            for (const other of all.values()) {
                if (other.id !== before?.id && unique(other, instance))
                    throw new SCIMMY.Types.Error(409, "uniqueness", `Another ${kind} has the same name`);
            }
            const now = new Date().toISOString();
            const after = {
                ...instance, id: before?.id ?? crypto.randomUUID(),
                meta: { created: before?.meta.created ?? now, lastModified: now },
            };
            all.set(after.id, after);
            written(before, after);
            return after;
        })
        .egress((resource) => {
            if (resource.id) {
                if (!all.has(resource.id)) throw missing(resource.id);
                return all.get(resource.id);
            }
            const found = [...all.values()];
            // scimmy cannot compare within a list that is absent.
            return resource.filter ? resource.filter.match(found.map((one) => ({ emails: [], members: [], ...one }))) : found;
        })
        .degress((resource) => {
            const before = all.get(resource.id);
            if (!before) throw missing(resource.id);
            all.delete(resource.id);
            removed(before);
        });
}

SCIMMY.Resources.User.extend(SCIMMY.Schemas.EnterpriseUser, false);
declare("User", {
    unique: (a, b) => a.userName.toLowerCase() === b.userName.toLowerCase(),
    written: changed,
    removed(user) {
        for (const [id, group] of kinds.Group) {
            const members = (group.members ?? []).filter((member) => member.value !== user.id);
            kinds.Group.set(id, { ...group, members });
        }
        record("delete", user);
    },
});
declare("Group", { unique: (a, b) => a.displayName === b.displayName, written: moved, removed: (group) => moved(group, { ...group, members: [] }) });

const app = express();
app.get("/journal", (_, response) => response.json(journal));
app.post("/throttle", (request, response) => {
    throttled = Number(request.query.n);
    response.status(204).end();
});
app.post("/owner", (request, response) => {
    owner = request.query.id;
    response.status(204).end();
});
app.use((request, response, next) => {
    if (throttled <= 0) return next();
    throttled--;
    response.status(429).set("Retry-After", "1").end();
});
app.use((request, response, next) => (noPatch && request.method === "PATCH" ? response.status(501).end() : next()));
app.use("/scim/v2", new SCIMMYRouters({
    type: "bearer",
    handler(request) {
        if (request.header("Authorization") !== `Bearer ${token}`) throw new Error("Authorization not accepted");
        return owner;
    },
}));
SCIMMY.Config.set("patch", !noPatch); // after the routers, which set it too
// What scimmy calls an error of the server it also hands on; the answer has been given.
app.use((error, _, response, next) => (response.headersSent ? undefined : next(error)));

const server = app.listen(0, "127.0.0.1", () => console.log(`127.0.0.1:${server.address().port}`));
process.stdin.resume().on("end", () => process.exit(0)); // with the test that started it
