import Foundation
import KokoroBundle
import KokoroSynthesis

/// What runs a bundle's packages on a device: Core ML, where it exists.
public protocol DeviceRuntime: Sendable {
    /// Processors that there are: some of `CPU`, `GPU` and `NeuralEngine`.
    var devices: [String] { get }

    /// The packages of a bundle, opened one by one.
    ///
    /// - Parameters:
    ///   - bundle: whose packages.
    ///   - choice: what they may run on.
    ///   - cache: folder for what is compiled; nil is one in the user's caches.
    /// - Returns: opened packages.
    func packages(
        of bundle: BundleFolder, on choice: UnitChoice, cache: URL?
    ) -> any DevicePackages
}

/// The packages of a bundle on one choice of compute units.
public protocol DevicePackages: StageProvider {
    /// Compiles a package, unless it was compiled before.
    ///
    /// - Parameter package: of the bundle.
    /// - Throws: `KokoroError.package` if it cannot be compiled.
    func compile(_ package: Manifest.Package) async throws

    /// Asks where the operations of a function will run.
    ///
    /// - Parameter place: of the bundle.
    /// - Returns: the plan.
    /// - Throws: `KokoroError.package` if the system is too old, or refuses.
    func plan(of place: PackagedFunction) async throws -> DevicePlan
}

/// Where Core ML means to run the operations of one function; `coreml/plan.py` reads it.
public struct DevicePlan: Sendable, Equatable {
    /// One operation that is no constant.
    public struct Operation: Sendable, Equatable {
        /// Index in the function, constants and nested blocks included.
        let position: Int
        /// MIL's name.
        let name: String
        /// The operation set it is of, nil where none is named.
        let opset: String?
        /// Names of its results.
        let outputs: [String]
        /// First result of the operation that holds its block, and the block's index.
        let inside: String?
        /// Preferred device, nil where it is not said.
        let device: String?
        /// All that could run it.
        let supported: [String]
        /// Estimated share of the work.
        let cost: Double?
    }

    /// Devices in the order of the format.
    static let devices = ["CPU", "GPU", "NeuralEngine"]

    /// The operations in turn.
    let operations: [Operation]
    /// How many constants were left out.
    let constants: Int
    /// Devices of this machine.
    let available: [String]

    /// Operations and share of the estimated cost per device.
    var summary: [(device: String, operations: Int, cost: Double)] {
        let total = operations.reduce(0) { $0 + ($1.cost ?? 0) }
        let names = Self.devices.map(Optional.some) + [nil]
        return names.compactMap { name in
            let own = operations.filter { $0.device == name }
            let cost = own.reduce(0) { $0 + ($1.cost ?? 0) }
            return own.isEmpty ? nil : (name ?? "unknown", own.count, total > 0 ? cost / total : 0)
        }
    }
}

/// The runtimes of this system.
enum DeviceRuntimes {
    /// Core ML, nil where it does not exist.
    static var available: (any DeviceRuntime)? {
        #if canImport(CoreML)
            return CoreMLRuntime()
        #else
            return nil
        #endif
    }
}
