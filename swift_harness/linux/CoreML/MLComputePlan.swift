import Foundation

/// A processor.
public enum MLComputeDevice {
    /// The processor.
    case cpu(MLCPUComputeDevice)
    /// The graphics processor.
    case gpu(MLGPUComputeDevice)
    /// The Neural Engine.
    case neuralEngine(MLNeuralEngineComputeDevice)
    /// Apple's enumeration may grow, so a `switch` needs a `default`; this makes it need one here.
    case standInUnknown
}

/// The processor.
public final class MLCPUComputeDevice: NSObject {}

/// The graphics processor.
public final class MLGPUComputeDevice: NSObject {}

/// The Neural Engine.
public final class MLNeuralEngineComputeDevice: NSObject {
    /// Number of cores.
    public let totalCoreCount = 16
}

/// What a model is made of. Apple's also describes neural networks and pipelines in full.
public enum MLModelStructure {
    /// An ML Program.
    case program(Program)
    /// Something else.
    case unsupported

    /// An ML Program.
    public struct Program {
        /// Functions by name.
        public let functions: [String: Function]

        /// One function.
        public struct Function {
            /// Its operations.
            public let block: Block
        }

        /// Operations in turn.
        public struct Block {
            /// The operations.
            public let operations: [Operation]
        }

        /// A value by name.
        public struct NamedValueType {
            /// The name.
            public let name: String
        }

        /// One operation.
        public struct Operation {
            /// Such as `ios18.conv`.
            public let operatorName: String
            /// What it gives.
            public let outputs: [NamedValueType]
            /// Blocks within it.
            public let blocks: [Block]
            let devices: [MLComputeDevice]
            let weight: Double?
        }
    }
}

/// What Core ML plans to do with a model.
@available(macOS 14.4, iOS 17.4, *)
public final class MLComputePlan {
    /// Where an operation will run.
    public struct DeviceUsage {
        /// All that could run it.
        public let supported: [MLComputeDevice]
        /// What will.
        public let preferred: MLComputeDevice
    }

    /// What an operation costs.
    public struct Cost {
        /// Share of the whole, within 0 and 1.
        public let weight: Double
    }

    /// What the model is made of.
    public let modelStructure: MLModelStructure

    private init(_ structure: MLModelStructure) { modelStructure = structure }

    /// Plans a compiled model.
    public static func load(
        contentsOf url: URL, configuration: MLModelConfiguration
    ) async throws -> MLComputePlan {
        let mark = url.appendingPathComponent(StandIn.markFile)
        guard let data = try? Data(contentsOf: mark) else {
            throw StandInFailure.error("\(url.path) is no compiled model")
        }
        let name = String(decoding: data, as: UTF8.self)
        StandIn.record(
            .planned(
                package: name, function: configuration.standInFunction,
                units: configuration.computeUnits))
        return MLComputePlan(try StandIn.structure(ofPackage: name))
    }

    /// Where an operation will run; nil where Core ML does not say.
    public func deviceUsage(
        for operation: MLModelStructure.Program.Operation
    ) -> DeviceUsage? {
        operation.devices.first.map { DeviceUsage(supported: operation.devices, preferred: $0) }
    }

    /// What an operation costs; nil where Core ML does not say.
    public func estimatedCost(of operation: MLModelStructure.Program.Operation) -> Cost? {
        operation.weight.map { Cost(weight: $0) }
    }
}

extension StandIn {
    /// One operation of a plan.
    public struct PlannedOperation: Sendable {
        let operatorName: String
        let output: String
        let devices: [Device]
        let weight: Double?

        /// A processor by name.
        public enum Device: Sendable {
            /// The processor.
            case cpu
            /// The graphics processor.
            case gpu
            /// The Neural Engine.
            case neuralEngine

            var device: MLComputeDevice {
                switch self {
                case .cpu: return .cpu(MLCPUComputeDevice())
                case .gpu: return .gpu(MLGPUComputeDevice())
                case .neuralEngine: return .neuralEngine(MLNeuralEngineComputeDevice())
                }
            }
        }

        /// Devices in order of preference; none for an operation without a plan.
        public init(_ operatorName: String, output: String, devices: [Device], weight: Double?) {
            self.operatorName = operatorName
            self.output = output
            self.devices = devices
            self.weight = weight
        }

        var operation: MLModelStructure.Program.Operation {
            MLModelStructure.Program.Operation(
                operatorName: operatorName,
                outputs: [MLModelStructure.Program.NamedValueType(name: output)], blocks: [],
                devices: devices.map(\.device), weight: weight)
        }
    }

    /// Puts plans of functions behind the name of a package.
    public static func plan(_ package: String, _ functions: [String: [PlannedOperation]]) {
        plans.set(package, functions)
    }

    static func forgetPlans() { plans.forget() }

    private static let plans = Plans()

    static func structure(ofPackage package: String) throws -> MLModelStructure {
        guard let functions = plans.get(package) else {
            throw StandInFailure.error("no plan is registered for \(package)")
        }
        return .program(
            MLModelStructure.Program(
                functions: functions.mapValues { operations in
                    MLModelStructure.Program.Function(
                        block: MLModelStructure.Program.Block(
                            operations: operations.map(\.operation)))
                }))
    }

    private final class Plans: @unchecked Sendable {
        private let lock = NSLock()
        private var packages: [String: [String: [PlannedOperation]]] = [:]

        func set(_ package: String, _ functions: [String: [PlannedOperation]]) {
            lock.withLock { packages[package] = functions }
        }

        func get(_ package: String) -> [String: [PlannedOperation]]? {
            lock.withLock { packages[package] }
        }

        func forget() { lock.withLock { packages = [:] } }
    }
}
