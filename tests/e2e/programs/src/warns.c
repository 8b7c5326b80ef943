#define SQUARE(x) ((x) * (x))

static int unused(int a) {
    int b;
    if (a = SQUARE(3))
        return b;
    missing(a);
}
