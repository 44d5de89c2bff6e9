/// Where tasks wait until a test lets them go.
public actor Gate {
    private var isOpen = false
    private var waiting: [CheckedContinuation<Void, Never>] = []
    private var arrivals: [(count: Int, continuation: CheckedContinuation<Void, Never>)] = []
    private var arrived = 0

    /// A closed gate.
    public init() {}

    /// Waits until the gate is open.
    public func pass() async {
        arrived += 1
        let reached = arrivals.filter { $0.count <= arrived }
        arrivals.removeAll { $0.count <= arrived }
        for waiter in reached { waiter.continuation.resume() }
        guard !isOpen else { return }
        await withCheckedContinuation { waiting.append($0) }
    }

    /// Waits until so many tasks have come to the gate.
    public func arrival(_ count: Int = 1) async {
        guard arrived < count else { return }
        await withCheckedContinuation { arrivals.append((count, $0)) }
    }

    /// Lets everybody through from now on.
    public func open() {
        isOpen = true
        for waiter in waiting { waiter.resume() }
        waiting = []
    }
}
