import Foundation
import KokoroBundle
import KokoroSynthesis

/// Runs `TinyNetwork` in memory, writes down what it was asked, and can be made to fail.
public final class TinyStages: StageProvider, @unchecked Sendable {
    /// What comes out of a function instead of what it gave.
    public typealias Change =
        @Sendable (PackagedFunction, [String: Tensor]) async throws -> [String: Tensor]

    private let lock = NSLock()
    private let change: Change
    private let refuse: @Sendable (PackagedFunction) async throws -> Void
    private var loadLog: [String] = []
    private var runLog: [String] = []
    private var ends: [String: Int] = [:]

    /// Stages that can be made to fail.
    ///
    /// - Parameters:
    ///   - change: called with what a function gave; may throw or wait.
    ///   - refuse: called before a function is loaded; may throw or wait.
    public init(
        change: @escaping Change,
        refuse: @escaping @Sendable (PackagedFunction) async throws -> Void = { _ in }
    ) {
        self.refuse = refuse
        self.change = change
    }

    /// Stages that give what `TinyNetwork` does.
    public convenience init() { self.init(change: { $1 }) }

    /// Functions that were loaded, in turn: `Encoder:tokens_8`.
    public var loads: [String] { lock.withLock { loadLog } }

    /// Functions that were run, in turn.
    public var runs: [String] { lock.withLock { runLog } }

    /// How many runners of a function there are no longer.
    public func unloads(of title: String) -> Int { lock.withLock { ends[title] ?? 0 } }

    /// Loads a function.
    public func runner(for place: PackagedFunction) async throws -> any FunctionRunner {
        try await refuse(place)
        lock.withLock { loadLog.append(Self.title(place)) }
        return Runner(place: place, stages: self)
    }

    /// Package without its extension, and function.
    public static func title(_ place: PackagedFunction) -> String {
        "\(place.package.file.replacingOccurrences(of: ".mlpackage", with: ""))"
            + ":\(place.function.name)"
    }

    private final class Runner: FunctionRunner {
        let place: PackagedFunction
        private let stages: TinyStages

        init(place: PackagedFunction, stages: TinyStages) {
            self.place = place
            self.stages = stages
        }

        deinit {
            stages.lock.withLock { stages.ends[TinyStages.title(place), default: 0] += 1 }
        }

        func predict(_ inputs: [String: Tensor]) async throws -> [String: Tensor] {
            stages.lock.withLock { stages.runLog.append(TinyStages.title(place)) }
            return try await stages.change(place, TinyNetwork.run(place.function, inputs))
        }
    }
}
