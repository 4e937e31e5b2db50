// COCO's compressed run lengths. Integers alone: compiled once, for every processor.

// Text of growing length.
struct Text {
    char *at = nullptr;
    long count = 0, room = 0;
    ~Text() { free(at); }
    bool add(char c) {
        if (count == room) {
            room = 2 * room + 256;
            char *more = (char *)realloc(at, room);
            if (more == nullptr) return false;
            at = more;
        }
        at[count++] = c;
        return true;
    }
    // Five bits in each character, least first, from the fourth number on as a difference.
    bool number(long x) {
        for (bool more = true; more;) {
            char c = x & 0x1f;
            x >>= 5;
            more = (c & 0x10) ? x != -1 : x != 0;
            if (!add((char)((more ? c | 0x20 : c) + 48))) return false;
        }
        return true;
    }
};

// The text of a mask of so many pixels, whose runs of ones begin and end at edges, in turn. A run
// that begins where the last one ended goes on.
inline bool coded(Edges &joined, const long *edges, long count, long pixels, Text &text) {
    joined.count = 0;
    for (long i = 0; i < count; i++)
        if (!joined.add(edges[i])) return false;
    text.count = 0;
    long before = 0, last[2] = {0, 0};  // the last two lengths
    for (long i = 0; i <= joined.count; i++) {
        const long end = i < joined.count ? joined.at[i] : pixels, length = end - before;
        if (i == joined.count && i > 0 && length == 0) break;
        if (!text.number(i > 2 ? length - last[i % 2] : length)) return false;
        last[i % 2] = length, before = end;
    }
    return true;
}
