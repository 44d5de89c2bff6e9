/// Where tasks wait until a test lets them go. Whoever waits does so for 20 s at most, so that a
/// test fails where it would hang.
public actor Gate {
    /// Nobody came to a gate.
    public struct NobodyCame: Error {}

    private var isOpen = false
    private var arrived = 0

    /// A closed gate.
    public init() {}

    /// Waits until the gate is open.
    public func pass() async {
        arrived += 1
        _ = await eventually { await self.isOpen }
    }

    /// Waits until so many tasks have come to the gate.
    ///
    /// - Throws: `NobodyCame` if they do not come.
    public func arrival(_ count: Int = 1) async throws {
        guard await eventually({ await self.arrived >= count }) else { throw NobodyCame() }
    }

    /// Lets everybody through from now on.
    public func open() { isOpen = true }
}

/// Waits until something holds, 20 s at most, also in a task that is cancelled.
///
/// - Parameter condition: asked every few milliseconds.
/// - Returns: whether it does.
public func eventually(_ condition: @Sendable () async -> Bool) async -> Bool {
    for _ in 0..<4000 {
        if await condition() { return true }
        // a cancelled task does not sleep itself
        await Task.detached { try? await Task.sleep(nanoseconds: 5_000_000) }.value
    }
    return await condition()
}
