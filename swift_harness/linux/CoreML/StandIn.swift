import Foundation

/// What tests put behind the stand-in. Nothing of this exists in Apple's framework.
public enum StandIn {
    /// One function of a package.
    public struct Function: Sendable {
        /// What a model says of itself.
        public let standInDescription: @Sendable () -> MLModelDescription
        let run: @Sendable (any MLFeatureProvider) throws -> [String: MLFeatureValue]

        /// What a model says of itself, and what it does.
        public init(
            description: @escaping @Sendable () -> MLModelDescription,
            run: @escaping @Sendable (any MLFeatureProvider) throws -> [String: MLFeatureValue]
        ) {
            standInDescription = description
            self.run = run
        }
    }

    /// What was asked of the stand-in.
    public enum Event: Sendable, Equatable {
        /// A package was compiled.
        case compiled(package: String)
        /// A model was loaded.
        case loaded(package: String, function: String?, units: MLComputeUnits, path: String)
        /// A plan was asked for.
        case planned(package: String, function: String?, units: MLComputeUnits)
    }

    static let markFile = "stand-in"
    private static let state = State()

    /// Puts functions behind the name of a package, without its extension. A single function
    /// under nil is a package that has no other.
    public static func register(_ package: String, _ functions: [String?: Function]) {
        state.register(package, functions)
    }

    /// Calls something whenever a package is compiled.
    public static func whenCompiling(_ body: @escaping @Sendable () -> Void) {
        state.setHook(body)
    }

    /// Forgets all packages, plans and events.
    public static func reset() {
        state.reset()
        forgetPlans()
    }

    /// What was asked so far.
    public static var events: [Event] { state.events }

    static func record(_ event: Event) {
        state.record(event)
        if case .compiled = event { state.hook() }
    }

    static func function(ofPackage package: String, named name: String?) throws -> Function {
        guard let functions = state.functions(package) else {
            throw StandInFailure.error("no model is registered for \(package)")
        }
        guard let function = functions[name] else {
            throw StandInFailure.error("\(package) has no function \(name ?? "of its own")")
        }
        return function
    }

    private final class State: @unchecked Sendable {
        private let lock = NSLock()
        private var packages: [String: [String?: Function]] = [:]
        private var log: [Event] = []
        private var whenCompiling: @Sendable () -> Void = {}

        var events: [Event] { lock.withLock { log } }

        func register(_ package: String, _ functions: [String?: Function]) {
            lock.withLock { packages[package] = functions }
        }

        func functions(_ package: String) -> [String?: Function]? {
            lock.withLock { packages[package] }
        }

        var hook: @Sendable () -> Void { lock.withLock { whenCompiling } }

        func setHook(_ body: @escaping @Sendable () -> Void) {
            lock.withLock { whenCompiling = body }
        }

        func record(_ event: Event) { lock.withLock { log.append(event) } }

        func reset() {
            lock.withLock {
                packages = [:]
                log = []
                whenCompiling = {}
            }
        }
    }
}
