#if canImport(CoreML)
    import CoreML
    import Foundation
    import KokoroCoreML

    /// Core ML of this system.
    struct CoreMLRuntime: DeviceRuntime {
        var devices: [String] {
            let available = Set(MLComputeDevice.allComputeDevices.compactMap(\.planName))
            return DevicePlan.devices.filter(available.contains)
        }

        func packages(
            of bundle: BundleFolder, on choice: UnitChoice, cache: URL?
        ) -> any DevicePackages {
            CoreMLPackages(
                choice: choice,
                stages: CoreMLStages(
                    bundle: bundle, computeUnits: { choice.units(for: $0) }, cache: cache))
        }
    }

    /// A bundle's packages on one choice of compute units.
    struct CoreMLPackages: DevicePackages {
        let choice: UnitChoice
        let stages: CoreMLStages

        func runner(for place: PackagedFunction) async throws -> any FunctionRunner {
            try await stages.runner(for: place)
        }

        func compile(_ package: Manifest.Package) async throws {
            _ = try await stages.compiled(package)
        }

        func plan(of place: PackagedFunction) async throws -> DevicePlan {
            guard #available(macOS 14.4, iOS 17.4, *) else {
                throw KokoroError.package("a compute plan needs macOS 14.4 or iOS 17.4")
            }
            let compiled = try await stages.compiled(place.package)
            return try await CoreMLPlanner(place: place, units: choice.units(for: place.package))
                .plan(of: compiled)
        }
    }

    /// Asks for the plan of a function.
    @available(macOS 14.4, iOS 17.4, *)
    struct CoreMLPlanner {
        let place: PackagedFunction
        let units: Manifest.ComputeUnits

        private var title: String { "\(place.package.file):\(place.function.name)" }

        /// The plan of a compiled package's function.
        func plan(of compiled: URL) async throws -> DevicePlan {
            let configuration = try MLModelConfiguration(for: place, computeUnits: units)
            let plan: MLComputePlan
            do {
                plan = try await MLComputePlan.load(
                    contentsOf: compiled, configuration: configuration)
            } catch {
                throw KokoroError.package(
                    "Core ML failed at planning \(title) on \(units.rawValue): "
                        + error.localizedDescription)
            }
            guard case .program(let program) = plan.modelStructure,
                let function = program.functions[place.function.name]
            else {
                throw KokoroError.package(
                    "Core ML's structure of \(place.package.file) has no function "
                        + "'\(place.function.name)'")
            }
            return try described(plan, function.block.operations)
        }

        private func described(
            _ plan: MLComputePlan, _ operations: [MLModelStructure.Program.Operation]
        ) throws -> DevicePlan {
            let all = Self.walked(operations, inside: nil)
            let kept = all.enumerated().compactMap { position, found -> DevicePlan.Operation? in
                let (opset, name) = Self.names(found.operation.operatorName)
                if name == "const" || name.hasPrefix("constexpr_") { return nil }
                let usage = plan.deviceUsage(for: found.operation)
                let supported = Set((usage?.supported ?? []).compactMap(\.planName))
                return DevicePlan.Operation(
                    position: position, name: name, opset: opset,
                    outputs: found.operation.outputs.map(\.name), inside: found.inside,
                    device: (usage?.preferred).flatMap(\.planName),
                    supported: DevicePlan.devices.filter(supported.contains),
                    cost: plan.estimatedCost(of: found.operation)?.weight)
            }
            guard kept.isEmpty || kept.contains(where: { $0.device != nil }) else {
                throw KokoroError.package(
                    "Core ML names no device for any of the \(kept.count) operations of \(title)")
            }
            return DevicePlan(
                operations: kept, constants: all.count - kept.count,
                available: CoreMLRuntime().devices)
        }

        private typealias Found = (operation: MLModelStructure.Program.Operation, inside: String?)

        /// All operations in order; those of a nested block follow the operation that holds it.
        private static func walked(
            _ operations: [MLModelStructure.Program.Operation], inside: String?
        ) -> [Found] {
            operations.flatMap { operation -> [Found] in
                let name = operation.outputs.first?.name ?? operation.operatorName
                let nested = operation.blocks.enumerated().flatMap { index, block in
                    walked(block.operations, inside: "\(name)/\(index)")
                }
                return [(operation, inside)] + nested
            }
        }

        /// `ios18.conv` as its set and its name.
        private static func names(_ full: String) -> (opset: String?, name: String) {
            guard let point = full.lastIndex(of: ".") else { return (nil, full) }
            return (String(full[..<point]), String(full[full.index(after: point)...]))
        }
    }

    extension MLComputeDevice {
        /// Its name in plans; nil for a kind of device that the format does not know.
        fileprivate var planName: String? {
            switch self {
            case .cpu: return "CPU"
            case .gpu: return "GPU"
            case .neuralEngine: return "NeuralEngine"
            default: return nil
            }
        }
    }
#endif
