import KokoroBundle

/// The functions that are loaded, one load for all who ask at the same time.
actor RunnerCache {
    /// Files tell packages apart, names the functions of one.
    private struct Key: Hashable {
        let file: String
        let function: String
    }

    private struct Entry {
        let slot: String
        let load: Task<any FunctionRunner, any Error>
    }

    private let provider: any StageProvider
    private let policy: MemoryPolicy
    private var entries: [Key: Entry] = [:]

    init(provider: any StageProvider, policy: MemoryPolicy) {
        self.provider = provider
        self.policy = policy
    }

    /// The runner of a function, loaded now if it is not yet.
    ///
    /// - Parameters:
    ///   - place: the function.
    ///   - slot: what `MemoryPolicy.onePerStage` keeps one of.
    /// - Returns: what runs it.
    /// - Throws: what the provider throws; another call tries again then.
    func runner(for place: PackagedFunction, slot: String) async throws -> any FunctionRunner {
        let key = Key(file: place.package.file, function: place.function.name)
        if let entry = entries[key] { return try await entry.load.value }
        if policy == .onePerStage { entries = entries.filter { $0.value.slot != slot } }
        let provider = provider
        let load = Task { try await provider.runner(for: place) }
        entries[key] = Entry(slot: slot, load: load)
        do {
            return try await load.value
        } catch {
            if entries[key]?.load == load { entries[key] = nil }
            throw error
        }
    }

    /// Forgets all of them; they are unloaded when nobody runs them any more.
    func unload() { entries = [:] }
}

/// Stages by name and function, ready to run.
struct StageLoader: Sendable {
    let cache: RunnerCache
    let observer: StageObserver?

    /// A stage of the pipeline or of the cut `complete`.
    ///
    /// - Throws: what the provider throws.
    func stage<Input, Output>(
        _ name: String, _ place: PackagedFunction, refusesNonFinite: Bool = true
    ) async throws -> PackagedStage<Input, Output> {
        try Task.checkCancellation()
        let clock = ContinuousClock()
        let start = clock.now
        let runner = try await cache.runner(for: place, slot: name)
        return PackagedStage(
            name: name, runner: runner, refusesNonFinite: refusesNonFinite,
            loadSeconds: (clock.now - start).seconds, observer: observer)
    }

    /// Loads a function and runs it on zeros.
    ///
    /// - Throws: what the provider and the runner throw.
    func prewarm(_ name: String, _ place: PackagedFunction) async throws {
        try Task.checkCancellation()
        try await cache.runner(for: place, slot: name).prewarm()
    }
}
